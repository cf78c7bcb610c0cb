package changes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"golang.org/x/sys/unix"
)

// defaultHidden is how many deleted entries of one directory are listed when what replaced it hides them all.
const defaultHidden = 1000

// maxDepth is how many directories deep a walk goes: no path that a program can use is deeper (PATH_MAX / 2).
const maxDepth = 2048

// Options are what a comparison may be told. The zero value lists all differences everywhere.
type Options struct {
	Path   string // this and what is below it; "" is all
	Same   bool   // tell what was copied up and is equal, too
	Hidden int    // how many deleted entries of a replaced directory are listed, 0: 1000, negative: all
}

// walk is one comparison of two views.
type walk struct {
	ctx      context.Context
	old, new *tree
	skip     func(path string) bool
	options  Options
	yield    func(Change, error) bool
	buffers  [2][]byte
}

var errStop = errors.New("the reader of the changes has enough")

// ErrNothingThere means that a path is neither there now nor in what it is compared with.
var ErrNothingThere = errors.New("neither there now, nor in what it is compared with")

// compare yields how new differs from old at start and below it, in the order of the paths. An error with a change that has a
// path is of that path alone; the walk goes on.
func compare(ctx context.Context, old, new *tree, mount, start string, skip func(string) bool, o Options) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		if o.Hidden == 0 {
			o.Hidden = defaultHidden
		}
		w := &walk{ctx: ctx, old: old, new: new, skip: skip, options: o, yield: yield}
		if err := w.begin(mount, start); err != nil && err != errStop {
			yield(Change{}, err)
		}
	}
}

// begin finds start, which lies at or below mount, in both views and compares it.
func (w *walk) begin(mount, start string) error {
	was, is, err := w.pair(mount, start)
	if err != nil {
		return err
	}
	defer was.close()
	defer is.close()
	if !was.found() && !is.found() {
		return fmt.Errorf("%s: %w", Plain(start), ErrNothingThere)
	}
	return w.item(start, was, is, 0)
}

// pair finds start in both views: in the old one below what the directories on the way were renamed from.
func (w *walk) pair(mount, start string) (was, is *item, err error) {
	defer func() {
		if err != nil {
			was.close()
			is.close()
		}
	}()
	if was, err = w.old.root(); err != nil {
		return was, is, err
	}
	if is, err = w.new.root(); err != nil {
		return was, is, err
	}
	names := parts(start[len(mount):])
	for i, name := range names {
		if was, err = w.old.step(was, name); err != nil {
			return was, is, err
		}
		if is, err = w.new.step(is, name); err != nil || i == len(names)-1 {
			return was, is, err
		}
		origin, _, err := w.origin(is)
		if err != nil {
			return was, is, err
		}
		if origin != nil {
			origin.adopt(was)
			was = origin
		}
	}
	return was, is, nil
}

// origin is where the old view has what was renamed to it, nil when it was not renamed.
func (w *walk) origin(is *item) (*item, string, error) {
	if !is.found() || is.redirect == "" || len(is.dirs) < 2 {
		return nil, "", nil
	}
	from := is.dirs[1].path
	it, err := w.old.resolve(from)
	if err != nil || !it.found() || it.kind() != Directory {
		it.close()
		return nil, "", err
	}
	return it, "/" + from, nil
}

// tell passes a change on.
func (w *walk) tell(c Change) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if !w.yield(c, nil) {
		return errStop
	}
	return nil
}

// item compares what both views have at a path, and what is below it.
func (w *walk) item(at string, was, is *item, depth int) error {
	if w.skip(at) {
		return nil
	}
	origin, from, err := w.origin(is)
	if err != nil {
		return w.failed(at, err)
	}
	defer origin.close()
	c := Change{Path: at, old: was, new: is, From: from}
	if was.found() {
		c.Kind, c.OldSize = was.kind(), size(was)
	}
	if is.found() {
		c.Kind, c.Size = is.kind(), size(is)
		if c.Kind != Directory && is.st.Nlink > 1 {
			c.Links = uint64(is.st.Nlink)
		}
	}
	switch {
	case !was.found() && !is.found():
		return nil
	case !is.found():
		c.Type = Deleted
		return w.tell(c)
	case !was.found():
		c.Type = Added
		if is.kind() != Directory && is.redirect != "" && is.data != is.entry {
			c.From = "/" + is.data.path()
		}
	case was.kind() != is.kind():
		c.Type, c.Was = TypeChanged, was.kind()
	default:
		if err := w.differences(&c, was, is); err != nil {
			return w.failed(at, err)
		}
		if from != "" {
			c.Type = Modified
		}
	}
	if c.Type != Same || w.options.Same {
		if err := w.tell(c); err != nil {
			return err
		}
	}
	if is.kind() != Directory {
		return nil
	}
	if depth == maxDepth {
		return w.failed(at, fmt.Errorf("more than %d directories deep", maxDepth))
	}
	var below, hidden []dir
	switch {
	case origin != nil:
		below = origin.dirs
		if was.found() {
			hidden = was.dirs
		}
	case was.found():
		below = was.dirs
	}
	return w.directory(at, below, hidden, is.dirs, depth)
}

func size(it *item) int64 {
	if it.kind() == File || it.kind() == Link {
		return it.st.Size
	}
	return 0
}

// failed tells that a path could not be compared, and goes on.
func (w *walk) failed(at string, err error) error {
	if errors.Is(err, errStop) || w.ctx.Err() != nil {
		return err
	}
	if !w.yield(Change{Path: at}, fmt.Errorf("%s: %w", Plain(at), err)) {
		return errStop
	}
	return nil
}

// directory compares what is in a directory of both views. Directories that both merge from the bottom up hide nothing from
// each other: only names that the others have can differ, which is what makes a comparison cost no more than the upper.
// What hidden has, and the new view has not, is deleted besides.
func (w *walk) directory(at string, was, hidden, is []dir, depth int) error {
	common := 0
	for common < len(was) && common < len(is) && was[len(was)-1-common].inode == is[len(is)-1-common].inode {
		common++
	}
	own := is[:len(is)-common]
	if len(was) == 0 && len(hidden) == 0 {
		// All is new: what an image adds, under a whiteout that has gone, is told by its directory alone.
		own = slices.DeleteFunc(slices.Clone(own), func(d dir) bool { return !w.new.upper || d.layer > 0 })
	}
	names, err := union(own)
	if err != nil {
		return w.failed(at, err)
	}
	gone, err := union(append(slices.Clone(was[:len(was)-common]), hidden...))
	if err != nil {
		return w.failed(at, err)
	}
	gone = without(gone, names)
	listed, more := 0, 0
	for len(names) > 0 || len(gone) > 0 {
		var name string
		explicit := len(gone) == 0 || len(names) > 0 && names[0] < gone[0]
		if explicit {
			name, names = names[0], names[1:]
		} else {
			name, gone = gone[0], gone[1:]
			if w.options.Hidden >= 0 && listed >= w.options.Hidden {
				more++
				continue
			}
		}
		told, err := w.name(at, name, was, hidden, is, explicit, depth)
		if err != nil {
			return err
		}
		if told {
			listed++
		}
	}
	if more > 0 {
		return w.tell(Change{Path: at, Type: Deleted, Kind: Directory, More: more})
	}
	return nil
}

// name compares one name in a directory of both views. It reports whether it was found to be deleted though nothing says so.
func (w *walk) name(at, name string, was, hidden, is []dir, explicit bool, depth int) (bool, error) {
	sub := at + "/" + name
	if at == "/" {
		sub = "/" + name
	}
	before, err := w.old.lookup(was, name)
	if err != nil {
		return false, w.failed(sub, err)
	}
	defer func() { before.close() }()
	now, err := w.new.lookup(is, name)
	if err != nil {
		return false, w.failed(sub, err)
	}
	defer now.close()
	if !before.found() && len(hidden) > 0 {
		other, err := w.old.lookup(hidden, name)
		if err != nil {
			return false, w.failed(sub, err)
		}
		before.close()
		before = other
	}
	return !explicit && before.found() && !now.found(), w.item(sub, before, now, depth+1)
}

// union returns the names of directories in order, each once.
func union(dirs []dir) ([]string, error) {
	var all []string
	for _, d := range dirs {
		names, err := d.names()
		if err != nil && !missing(err) {
			return nil, err
		}
		all = append(all, names...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// without returns the names of a that b has not; both are sorted.
func without(a, b []string) []string {
	return slices.DeleteFunc(a, func(name string) bool {
		_, found := slices.BinarySearch(b, name)
		return found
	})
}

// differences sets the type of a change between two things of the same kind.
func (w *walk) differences(c *Change, was, is *item) error {
	c.Type = Same
	if was.inode() == is.inode() && was.data != nil && is.data != nil && was.data.inode() == is.data.inode() {
		return nil
	}
	changed, err := w.content(c, was, is)
	if err != nil {
		return err
	}
	metadata, err := metadataOf(was.entry, is.entry)
	if err != nil {
		return err
	}
	c.Metadata = append(c.Metadata, metadata...)
	switch {
	case changed:
		c.Type = Modified
	case len(c.Metadata) > 0:
		c.Type = Metadata
	}
	return nil
}

// content compares what the kind holds.
func (w *walk) content(c *Change, was, is *item) (changed bool, err error) {
	switch was.kind() {
	case File:
		return w.bytes(was, is)
	case Link:
		before, err := was.target()
		if err != nil {
			return false, err
		}
		now, err := is.target()
		if before != now {
			c.Metadata = append(c.Metadata, Difference{"target", before, now})
		}
		return before != now, err
	case Char, Block:
		if was.st.Rdev != is.st.Rdev {
			c.Metadata = append(c.Metadata, Difference{"device", device(was.st.Rdev), device(is.st.Rdev)})
			return true, nil
		}
	}
	return false, nil
}

func device(n uint64) string { return fmt.Sprintf("%d:%d", unix.Major(n), unix.Minor(n)) }

// bytes compares contents: first what costs nothing to know.
func (w *walk) bytes(was, is *item) (changed bool, err error) {
	if was.st.Size != is.st.Size {
		return true, nil
	}
	if was.st.Size == 0 || was.data.inode() == is.data.inode() {
		return false, nil
	}
	a, err := was.open()
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := is.open()
	if err != nil {
		return false, err
	}
	defer b.Close()
	for i := range w.buffers {
		if w.buffers[i] == nil {
			w.buffers[i] = make([]byte, 1<<17)
		}
	}
	for left := is.st.Size; left > 0; {
		if err := w.ctx.Err(); err != nil {
			return false, err
		}
		part := min(left, int64(len(w.buffers[0])))
		n, errA := io.ReadFull(a, w.buffers[0][:part])
		m, errB := io.ReadFull(b, w.buffers[1][:part])
		for _, err := range []error{errA, errB} {
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return false, err
			}
		}
		// A short read is of a file that was cut meanwhile.
		if n != m || !bytes.Equal(w.buffers[0][:n], w.buffers[1][:m]) {
			return true, nil
		}
		if errA != nil {
			return false, nil
		}
		left -= int64(n)
	}
	return false, nil
}

// metadataOf compares mode, owner and extended attributes. Times are no change: each copy-up makes new ones of directories.
func metadataOf(was, is *entry) ([]Difference, error) {
	var all []Difference
	mode := func(e *entry) string { return fmt.Sprintf("%04o", e.st.Mode&0o7777) }
	owner := func(e *entry) string { return fmt.Sprintf("%d:%d", e.st.Uid, e.st.Gid) }
	if was.kind() != Link && mode(was) != mode(is) {
		all = append(all, Difference{"mode", mode(was), mode(is)})
	}
	if owner(was) != owner(is) {
		all = append(all, Difference{"owner", owner(was), owner(is)})
	}
	names := slices.Concat(was.xattrs, is.xattrs)
	if len(names) == 0 {
		return all, nil
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		before, err := was.xattr(name)
		if err != nil {
			return all, err
		}
		now, err := is.xattr(name)
		if err != nil {
			return all, err
		}
		if !bytes.Equal(before, now) || (before == nil) != (now == nil) {
			all = append(all, Difference{"xattr " + name, value(before), value(now)})
		}
	}
	return all, nil
}

// value makes an attribute's value readable: the most are text.
func value(v []byte) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf("%q", v)
}
