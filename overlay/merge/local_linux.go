package merge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
)

// What follows is for the running system, on an upper that is mounted: the upper is read, and changed through the overlay only.

// Local reports what an upper holds against the very base that it lies on: what is local, what is equal to the base, and which
// conflicts of earlier merges nobody has resolved.
func Local(ctx context.Context, s Spec) (*Report, error) {
	base, err := openView(s.Lowers)
	if err != nil {
		return nil, err
	}
	defer base.close()
	upper, err := entry.OpenRoot(s.Upper)
	if errors.Is(err, fs.ErrNotExist) {
		return &Report{Format: ReportFormat, Items: []Item{}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("upper: %w", err)
	}
	defer unix.Close(upper)
	m := maker{base: base}
	p, err := makePlan(ctx, &s, upper, base, func(path string) (*node, error) {
		f, err := m.find(path)
		if err == nil && f.node != nil {
			err = f.hash()
			f.hashed = true // all is known of it, and its directory is about to be closed
		}
		f.close()
		return f.node, err
	})
	if err != nil {
		return nil, err
	}
	for i := range p.Report.Items {
		if note := &p.Report.Items[i].Note; *note == noteEarlier {
			*note = "" // whether it is one of an earlier base or of this one the report of the merge knows
		}
	}
	return &p.Report, nil
}

// ErrNoSide means that there is nothing to accept: no side of the base lies beside the path.
var ErrNoSide = errors.New("the base has laid nothing beside it")

// Change is one thing that Accept and Reset do, or would do.
type Change struct {
	Path string `json:"path"` // relative to the merged directory
	What string `json:"what"`
}

// Resolver resolves conflicts on the running system.
type Resolver struct {
	Merged string   // the merged directory, as the system sees it
	Upper  string   // its upper directory, which is only read
	Lowers []string // bottom first
	DryRun bool     // only tell
}

// Accept puts the base's side of a path, which a merge has laid beside it, in its place. Of several sides it takes the last that
// nobody has edited, or the one that there is. What it returns was done, with an error too; as long as the path was not replaced the
// side lies beside it, and the conflict is open.
func (r Resolver) Accept(path string) ([]Change, error) {
	root, err := entry.OpenRoot(r.Merged)
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	d, name := entry.Split(path)
	fd, err := entry.OpenBeneath(root, d)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var all []string
	for i := 1; i <= maxSides; i++ {
		all = append(all, sideName(name, i))
	}
	found, err := sides(fd, slices.DeleteFunc(all, func(n string) bool { return !entry.Exists(fd, n) }))
	if err != nil {
		return nil, err
	}
	var side *sideOf
	list := found[name]
	for i := range list {
		if side == nil || !list[i].edited || side.edited {
			side = &list[i]
		}
	}
	if side == nil {
		return nil, about(path, ErrNoSide)
	}
	done := []Change{{path, "replaced by " + entry.Plain(side.name)}}
	for _, s := range list {
		if s.name != side.name && !s.edited {
			done = append(done, Change{join(d, s.name), "removed"})
		}
	}
	if err := fixed(fd, name, path); err != nil {
		return nil, err
	}
	if r.DryRun {
		return done, nil
	}
	// First the decision, then what stands for it: whatever fails, the conflict is there or it is over.
	if err := replaceBy(fd, side.name, name); err != nil {
		return nil, about(path, err)
	}
	errs := []error{entry.RemoveXattr(fd, name, sideAttr)}
	put := done[:1:1]
	for _, c := range done[1:] {
		_, old := entry.Split(c.Path)
		err := entry.Remove(fd, old)
		if err == nil {
			put = append(put, c)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(append(errs, entry.Sync(fd, ""))...); err != nil {
		return put, about(path, fmt.Errorf("it was replaced, but not all is in order: %w", err))
	}
	return put, nil
}

// ErrFixed means that chattr(1) has made a path, or one below it, immutable or append-only. Take that away, if it is to change.
var ErrFixed = errors.New("it is immutable or append-only: take that away first (chattr -i -a)")

// fixed refuses what somebody has made immutable or append-only: the path at name of fd, the directory that it lies in, and all that is
// below it. A name that is not there is none of them.
func fixed(fd int, name, path string) error {
	if st, err := entry.At(fd, ""); err != nil || st.Fixed {
		d, _ := entry.Split(path)
		return fixedAt(cmp.Or(d, "."), err)
	}
	return fixedBelow(fd, name, path, 0)
}

func fixedBelow(fd int, name, path string, depth int) error {
	st, err := entry.At(fd, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || st.Fixed {
		return fixedAt(path, err)
	}
	if !st.Dir() || st.Mounted || depth > entry.MaxDepth {
		return nil // what is mounted, or too deep, is refused by whoever would remove it
	}
	sub, err := entry.OpenDir(fd, name)
	if err != nil {
		return err
	}
	defer unix.Close(sub)
	names, err := entry.Names(sub)
	for _, n := range names {
		if err == nil {
			err = fixedBelow(sub, n, join(path, n), depth+1)
		}
	}
	return err
}

func fixedAt(path string, err error) error {
	if err == nil {
		err = ErrFixed
	}
	return about(path, err)
}

// about gives an error the path that it is about, as people see it, instead of the name that the step had.
func about(path string, err error) error {
	if at, ok := err.(*fs.PathError); ok {
		err = fmt.Errorf("%s: %w", at.Op, at.Err)
	}
	return fmt.Errorf("%s: %w", entry.Plain(path), err)
}

// replaceBy renames from to name: at once where neither is a directory, or else after what lies there was removed.
func replaceBy(fd int, from, name string) error {
	err := unix.Renameat(fd, from, fd, name)
	if err == unix.EISDIR || err == unix.ENOTDIR || err == unix.ENOTEMPTY || err == unix.EEXIST || err == unix.EXDEV {
		if err := entry.Remove(fd, name); err != nil {
			return err
		}
		err = unix.Renameat(fd, from, fd, name)
	}
	if err != nil {
		return &fs.PathError{Op: "rename", Path: from, Err: err}
	}
	return nil
}
