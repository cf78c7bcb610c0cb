package changes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	files "veneer/overlay/entry"
)

// restoreTemp is where Restore makes what it puts into place, beside it.
const restoreTemp = ".veneer-restore.tmp"

// ErrNotAtOnce means that the running system cannot give a path back what it had: something is mounted there, or nobody kept it.
// Nothing was changed. A return of the whole at the next boot may do it.
var ErrNotAtOnce = errors.New("cannot be returned to on the running system")

// Restored is what was done to a path, or would be.
type Restored struct {
	Path string `json:"path"`
	What string `json:"what"`
}

// Restore makes start and all below it what the old side of the machine has there, through the merged root at root: overlayfs is
// never gone behind. What differs in nothing but its times is left alone.
//
// Whoever looks meanwhile sees each file, link or device as it was or as it becomes: it is made under another name, with owner, mode,
// attributes and time, made durable, and renamed. So is a directory that comes back; where overlayfs can exchange no directories (the
// images have one there too), the one that is in its place is removed first. A stop leaves some paths done and at most one
// file .veneer-restore.tmp, which the next Restore there removes; done tells what was, with an error too.
func (m *Machine) Restore(ctx context.Context, root, start string, dry bool) (done []Restored, err error) {
	todo, err := m.toRestore(ctx, start)
	if err != nil {
		return nil, err
	}
	v := &views{m: m, open: map[*Source][2]*tree{}}
	defer v.close()
	r := &restorer{views: v, dry: dry, done: []Restored{}, copier: files.Copier{Sync: true}}
	if r.merged, err = files.OpenRoot(root); err != nil {
		return nil, err
	}
	defer unix.Close(r.merged)
	for _, c := range todo {
		if err := ctx.Err(); err != nil {
			return r.done, err
		}
		if err := r.change(c); err != nil {
			return r.done, fmt.Errorf("restore %s: %w", Plain(c.Path), remedied(err))
		}
	}
	return r.done, r.times(start)
}

// remedied adds what to do about an error that people meet.
func remedied(err error) error {
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w; a rule, or the watermark of the space, made it read-only: see veneer why", err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w; what is named above is done, make room (veneer du, veneer cleanup) and go on with the same words", err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w; something is mounted there: unmount it, or return to the whole at the next boot", err)
	}
	return err
}

// toRestore lists what has to change, a directory that goes or comes as a whole by itself, and refuses what cannot be done before
// anything is.
func (m *Machine) toRestore(ctx context.Context, start string) ([]Change, error) {
	s, f := m.owner(start)
	switch {
	case f != nil:
		return nil, fmt.Errorf("%s: %w: %s is %s", Plain(start), ErrNotAtOnce, Plain(f.Path), Plain(f.What))
	case s == nil || s.Upper == nil:
		return nil, fmt.Errorf("%s: %w: nothing is written there", Plain(start), ErrNotAtOnce)
	}
	var todo []Change
	whole := "" // a directory that goes or comes with all that is in it
	for c, err := range m.Changes(ctx, Options{Path: start, Hidden: -1}) {
		if err != nil {
			return nil, err
		}
		if c.Type == LeftOut || whole != "" && within(c.Path, whole) {
			continue
		}
		if c.whole() {
			whole = c.Path
		}
		if err := m.mayChange(c); err != nil {
			return nil, err
		}
		todo = append(todo, c)
	}
	return todo, nil
}

// whole claims that a change says all there is to do at its path and below.
func (c Change) whole() bool {
	return c.Type == Added || c.Type == Deleted || c.Type == TypeChanged || c.From != "" || c.Kind != Directory
}

// mayChange refuses to take away what is mounted, or what something is mounted on.
func (m *Machine) mayChange(c Change) error {
	if !c.whole() {
		return nil
	}
	mounted := func(p, what string) error {
		if !within(p, c.Path) {
			return nil
		}
		return fmt.Errorf("%s: %w: %s is %s", Plain(c.Path), ErrNotAtOnce, Plain(p), Plain(what))
	}
	for _, s := range m.Sources {
		if err := mounted(s.Mount, "mounted by a rule"); err != nil {
			return err
		}
	}
	for _, f := range m.Foreign {
		if err := mounted(f.Path, f.What); err != nil {
			return err
		}
	}
	return nil
}

// restorer carries out changes backwards.
type restorer struct {
	*views
	merged int
	dry    bool
	done   []Restored
	copier files.Copier
	dirs   []string // in which names came or went
}

// change undoes one change.
func (r *restorer) change(c Change) error {
	switch {
	case c.Type == Added:
		return r.do(c, "removed", func(dir int, name string) error { return r.remove(dir, name) })
	case c.whole():
		what := "replaced"
		if c.Type == Deleted {
			what = "brought back"
		}
		return r.do(c, what, func(dir int, name string) error { return r.put(c.Path, dir, name) })
	}
	return r.do(c, "given the owner, mode and attributes that it had", func(dir int, name string) error { return r.meta(c.Path, dir, name) })
}

func (r *restorer) do(c Change, what string, change func(dir int, name string) error) error {
	if !r.dry {
		dir, err := r.parent(c.Path)
		if err != nil {
			return err
		}
		defer unix.Close(dir)
		if err := change(dir, path.Base(c.Path)); err != nil {
			return err
		}
		if err := files.Sync(dir, ""); err != nil {
			return err
		}
		r.dirs = append(r.dirs, path.Dir(c.Path))
	}
	r.done = append(r.done, Restored{c.Path, what})
	return nil
}

// parent opens the directory of a path in the merged root, through mounts, which are ours, and through no link.
func (r *restorer) parent(p string) (int, error) {
	dir := path.Dir(p)
	fd, err := r.open(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		err = fmt.Errorf("%s is no directory now: return to %[1]s as a whole", Plain(dir))
	}
	return fd, err
}

func (r *restorer) open(dir string) (int, error) {
	fd, err := unix.Openat2(r.merged, path.Join(".", dir), &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return fd, nil
}

// remove takes a name away: a directory first loses it, so that a stop leaves no part of it in view.
func (r *restorer) remove(dir int, name string) error {
	st, err := files.At(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !st.Dir() {
		return errors.Join(err, files.Remove(dir, name))
	}
	if err := errors.Join(loosen(dir, name), files.Remove(dir, restoreTemp)); err != nil {
		return err
	}
	switch err := unix.Renameat(dir, name, dir, restoreTemp); {
	case err == nil:
		return files.Remove(dir, restoreTemp)
	case err != unix.EXDEV: // a directory that the images have too
		return &fs.PathError{Op: "rename", Path: name, Err: err}
	}
	return files.Remove(dir, name)
}

// put puts what was into the place of what is.
func (r *restorer) put(p string, dir int, name string) (err error) {
	was, t, err := r.was(p)
	if err != nil {
		return err
	}
	defer was.close()
	if err := files.Remove(dir, restoreTemp); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.Remove(dir, restoreTemp)) }()
	if err := r.copy(t, was, dir, restoreTemp, 0); err != nil {
		return err
	}
	if err := loosen(dir, name); err != nil {
		return err
	}
	is, err := files.At(dir, name)
	there := !errors.Is(err, fs.ErrNotExist)
	if there && err != nil {
		return err
	}
	if there && (is.Dir() || was.kind() == Directory) {
		switch err := unix.Renameat2(dir, restoreTemp, dir, name, unix.RENAME_EXCHANGE); {
		case err == nil:
			return nil
		case err != unix.EXDEV && err != unix.EINVAL:
			return &fs.PathError{Op: "exchange", Path: name, Err: err}
		}
		if err := files.Remove(dir, name); err != nil {
			return err
		}
	}
	if err := unix.Renameat(dir, restoreTemp, dir, name); err != nil {
		return &fs.PathError{Op: "rename", Path: name, Err: err}
	}
	return nil
}

// meta gives a directory the owner, mode and attributes that it had.
func (r *restorer) meta(p string, dir int, name string) error {
	was, _, err := r.was(p)
	if err != nil {
		return err
	}
	defer was.close()
	// A mount point is reached through itself: its name in the directory above is what it covers.
	fd, err := r.open(p)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := loosen(fd, ""); err != nil {
		return err
	}
	st, err := files.At(was.in.fd, was.name)
	if err != nil {
		return err
	}
	attrs, _, err := files.Xattrs(was.in.fd, was.name)
	if err != nil {
		return err
	}
	r.dirs = append(r.dirs, p)
	return errors.Join(files.SetMeta(fd, "", st, attrs), files.Sync(fd, ""))
}

// loosen takes the flags away that keep a name from being replaced. One that is not there has none.
func loosen(dir int, name string) error {
	st, err := files.At(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !st.Fixed {
		return err
	}
	return files.Loosen(dir, name)
}

// was finds what the old side has at a path.
func (r *restorer) was(p string) (*item, *tree, error) {
	s, _ := r.m.owner(p)
	if s == nil {
		return nil, nil, ErrNotAtOnce
	}
	t, _, err := r.of(s)
	if err != nil {
		return nil, nil, err
	}
	it, err := t.resolve(p[len(s.Mount):])
	if err == nil && !it.found() {
		it.close()
		it, err = nil, ErrNothingThere
	}
	return it, t, err
}

// copy copies what shows in a view to a name that must be free.
func (r *restorer) copy(t *tree, it *item, to int, as string, depth int) error {
	if depth > files.MaxDepth {
		return files.ErrTooDeep
	}
	if it.data.metacopy {
		return &fs.PathError{Op: "copy", Path: it.path(), Err: errors.New("the file that holds its content is gone")}
	}
	if err := r.copier.Node(it.data.in.fd, it.data.name, to, as); err != nil {
		return err
	}
	if it.kind() == Directory {
		if err := r.copyBelow(t, it, to, as, depth); err != nil {
			return err
		}
	} else if it.data == it.entry {
		return nil
	}
	return r.copier.Finish(it.in.fd, it.name, to, as)
}

func (r *restorer) copyBelow(t *tree, it *item, to int, as string, depth int) error {
	fd, err := files.OpenDir(to, as)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := union(it.dirs)
	if err != nil {
		return err
	}
	for _, name := range names {
		below, err := t.lookup(it.dirs, name)
		if err == nil && below.found() {
			err = r.copy(t, below, fd, name, depth+1)
		}
		below.close()
		if err != nil {
			return err
		}
	}
	return nil
}

// times gives the directories that names came to or went from the time that they had.
func (r *restorer) times(start string) error {
	slices.SortFunc(r.dirs, func(a, b string) int { return strings.Compare(b, a) }) // what is deeper first
	var failed []error
	for _, p := range slices.Compact(r.dirs) {
		if !within(p, start) {
			continue
		}
		failed = append(failed, r.time(p))
	}
	return errors.Join(failed...)
}

func (r *restorer) time(p string) error {
	was, _, err := r.was(p)
	if err != nil {
		return err
	}
	defer was.close()
	st, err := files.At(was.in.fd, was.name)
	if err != nil {
		return err
	}
	fd, err := r.open(p)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return files.SetTime(fd, "", st)
}
