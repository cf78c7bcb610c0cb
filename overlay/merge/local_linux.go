package merge

import (
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
// nobody has edited, or the one that there is.
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
		return nil, &fs.PathError{Op: "accept", Path: path, Err: ErrNoSide}
	}
	done := []Change{{path, "replaced by " + side.name}}
	for _, s := range list {
		if s.name != side.name && !s.edited {
			done = append(done, Change{join(d, s.name), "removed"})
		}
	}
	if r.DryRun {
		return done, nil
	}
	if err := entry.RemoveXattr(fd, side.name, sideAttr); err != nil {
		return nil, err
	}
	if err := replaceBy(fd, side.name, name); err != nil {
		return nil, err
	}
	for _, c := range done[1:] {
		_, old := entry.Split(c.Path)
		if err := entry.Remove(fd, old); err != nil {
			return nil, err
		}
	}
	return done, entry.Sync(fd, "")
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
