package changes

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// tree is the merged view of layers, as overlayfs has it.
type tree struct {
	roots  []root  // top first, one for each layer that there is
	layers []Layer // the same, as they were given
	upper  bool    // the first of them is written to
}

// root is where a layer begins: a directory, or the one file that a rule binds.
type root struct {
	dir
	file string // its name in dir; "" is the directory itself
}

// openTree opens the layers of a view, lowers bottom first. A lower that is not there is left out: an image need not have what
// others have. An upper that is not there is an error.
func openTree(upper *Layer, lowers []Layer) (t *tree, err error) {
	t = &tree{upper: upper != nil}
	if upper != nil {
		if err := t.add(*upper); err != nil {
			return nil, err
		}
	}
	for i := len(lowers) - 1; i >= 0; i-- {
		if err := t.add(lowers[i]); err != nil && !missing(err) {
			t.close()
			return nil, err
		}
	}
	return t, nil
}

func (t *tree) add(l Layer) error {
	r := root{}
	var err error
	if r.dir, err = openRoot(l.Dir, len(t.roots)); errors.Is(err, unix.ENOTDIR) {
		r.file = path.Base(l.Dir)
		r.dir, err = openRoot(path.Dir(l.Dir), len(t.roots))
	}
	if err == nil {
		t.roots, t.layers = append(t.roots, r), append(t.layers, l)
	}
	return err
}

func (t *tree) close() {
	for _, d := range t.roots {
		unix.Close(d.fd)
	}
	t.roots = nil
}

// item is what a view has at a path.
type item struct {
	*entry         // the metadata; nil: nothing is there
	data    *entry // where the content is: another one when only the metadata was copied up
	dirs    []dir  // of a directory: those that are merged, top first
	deleter *entry // the whiteout that was met, when nothing is there
	held    []int  // further descriptors that are closed with it
}

func (it *item) found() bool { return it != nil && it.entry != nil }

func (it *item) close() {
	if it == nil {
		return
	}
	for _, d := range it.dirs {
		unix.Close(d.fd)
	}
	for _, fd := range it.held {
		unix.Close(fd)
	}
	it.dirs, it.held = nil, nil
}

// root is the item of the view's root. Roots are merged whatever marks they have, as overlayfs does.
func (t *tree) root() (*item, error) {
	it := &item{}
	for _, r := range t.roots {
		e, sub, err := r.begin()
		if err != nil {
			it.close()
			return nil, err
		}
		if sub.fd >= 0 {
			it.dirs = append(it.dirs, sub)
		}
		if it.entry == nil && e != nil {
			it.entry, it.data = e, e
		}
		if r.file != "" {
			break
		}
	}
	return it, nil
}

// begin is the entry of the root, and its directory anew, for whoever closes what it has walked through.
func (r root) begin() (*entry, dir, error) {
	none := dir{fd: -1}
	if r.file != "" {
		e, err := r.stat(r.file)
		return e, none, err
	}
	sub, err := r.open(".")
	if err != nil {
		return nil, none, err
	}
	sub.path = "."
	e, err := sub.self()
	if err != nil {
		unix.Close(sub.fd)
		return nil, none, err
	}
	return e, sub, nil
}

// lookup finds name in the merged directories dirs: the first layer that has it gives it; directories of the layers below are
// merged with it until one is opaque, a whiteout or something else stands there. This is ovl_lookup in fs/overlayfs/namei.c.
func (t *tree) lookup(dirs []dir, name string) (*item, error) {
	it := &item{}
	for _, d := range dirs {
		e, err := d.stat(name)
		if err != nil {
			it.close()
			return nil, err
		}
		if e == nil {
			continue
		}
		more, err := it.add(e)
		if err != nil {
			it.close()
			return nil, err
		}
		if !more {
			return it, nil
		}
		if strings.HasPrefix(e.redirect, "/") {
			return it, t.lookupBelow(it, d.layer, e.redirect)
		}
		if e.redirect != "" {
			name = e.redirect
		}
	}
	return it, nil
}

// lookupBelow goes on with an absolute path in the layers below the given one.
func (t *tree) lookupBelow(it *item, layer int, path string) error {
	for _, root := range t.roots {
		if root.layer <= layer || root.file != "" {
			continue
		}
		e, stop, err := it.walk(root.dir, strings.TrimPrefix(path, "/"))
		if err != nil {
			return err
		}
		if e != nil {
			more, err := it.add(e)
			if err != nil {
				return err
			}
			stop = stop || !more
			switch {
			case strings.HasPrefix(e.redirect, "/"):
				path = e.redirect
			case e.redirect != "":
				path = path[:strings.LastIndexByte(path, '/')+1] + e.redirect
			}
		}
		if stop {
			return nil
		}
	}
	return nil
}

// walk goes down one layer. It stops the whole search at what hides the layers below on the way.
func (it *item) walk(d dir, path string) (e *entry, stop bool, err error) {
	for {
		name, rest, deeper := strings.Cut(path, "/")
		if e, err = d.stat(name); e == nil || err != nil || !deeper {
			return e, stop, err
		}
		if e.whiteout || e.kind() != Directory {
			return nil, true, nil
		}
		stop = stop || e.opaque
		sub, err := d.open(name)
		if err != nil {
			if missing(err) {
				return nil, stop, nil
			}
			return nil, stop, err
		}
		it.held = append(it.held, sub.fd)
		d, path = sub, rest
	}
}

// add takes what the next layer has, and reports whether the layers below have a say.
func (it *item) add(e *entry) (more bool, err error) {
	switch {
	case e.whiteout:
		if it.entry == nil {
			it.deleter = e
		}
		return false, nil
	case it.entry == nil:
		it.entry, it.data = e, e
		if e.kind() != Directory {
			return e.metacopy, nil
		}
	case it.kind() != Directory:
		if e.kind() == File {
			it.data = e
		}
		return e.kind() == File && e.metacopy, nil
	case e.kind() != Directory:
		return false, nil
	}
	sub, err := e.in.open(e.name)
	if err != nil {
		if missing(err) {
			return false, nil // it went away, or became something else
		}
		return false, err
	}
	it.dirs = append(it.dirs, sub)
	return !e.opaque, nil
}

// resolve finds a path from the root of the view. The parts on the way are not followed where they are links.
func (t *tree) resolve(path string) (*item, error) {
	it, err := t.root()
	if err != nil {
		return nil, err
	}
	for _, name := range parts(path) {
		if it, err = t.step(it, name); err != nil {
			it.close()
			return nil, err
		}
	}
	return it, nil
}

// step goes from a directory to what it has under a name, and keeps it open. With an error it stays where it is.
func (t *tree) step(it *item, name string) (*item, error) {
	next, err := t.lookup(it.dirs, name)
	if err != nil {
		return it, err
	}
	next.adopt(it)
	return next, nil
}

// adopt keeps open what it was found in.
func (it *item) adopt(in *item) {
	for _, d := range in.dirs {
		it.held = append(it.held, d.fd)
	}
	it.held = append(it.held, in.held...)
	in.dirs, in.held = nil, nil
}

func parts(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// open opens the content of a regular file.
func (it *item) open() (io.ReadCloser, error) {
	if !it.found() || it.kind() != File {
		return nil, fs.ErrInvalid
	}
	e := it.data
	if e.metacopy {
		return nil, &fs.PathError{Op: "open", Path: e.path(), Err: fmt.Errorf("only its metadata was copied up, and the file that holds the content is gone")}
	}
	fd, err := openBeneath(e.in.fd, e.name, unix.O_RDONLY|unix.O_NOATIME)
	if err == unix.EPERM {
		fd, err = openBeneath(e.in.fd, e.name, unix.O_RDONLY)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: e.path(), Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || kindOf(st.Mode) != File {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "open", Path: e.path(), Err: fs.ErrInvalid}
	}
	return os.NewFile(uintptr(fd), e.path()), nil
}
