package state

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrNothingToUndo means that no operation left anything that could come back: none was carried out since the last bless, or those
// that were are gone.
var ErrNothingToUndo = errors.New("there is nothing to undo")

// An Operation is what lies aside and can come back.
type Operation struct {
	ID       string
	Kind     Kind
	What     string
	Of       string
	Undoable bool
	Pending  bool // a stop interrupted it; the next boot ends it
}

// Operations lists what lies aside, oldest first.
func (d *Dir) Operations() ([]Operation, []Problem, error) {
	all, problems, err := d.operations()
	if err != nil {
		return nil, nil, err
	}
	var list []Operation
	for _, o := range all {
		list = append(list, Operation{o.ID, o.Kind, o.What, o.Of, o.undoable(), o.Phase != phaseDone})
	}
	return list, problems, nil
}

// Find makes the ID of what a person typed: an ID, the number of an entry of the journal, or "" for the newest operation that can
// be undone.
func (d *Dir) Find(word string) (string, error) {
	if n, err := strconv.Atoi(word); err == nil {
		entries, _, err := d.Journal()
		if err != nil {
			return "", err
		}
		i := slices.IndexFunc(entries, func(e Entry) bool { return e.Number == n })
		if i < 0 {
			return "", fmt.Errorf("the journal has no number %d", n)
		}
		word = entries[i].ID
	}
	o, err := d.undoable(word)
	if err != nil {
		return "", err
	}
	return o.ID, nil
}

// undoable returns an operation that can be undone, "" for the newest.
func (d *Dir) undoable(id string) (*operation, error) {
	if id == "" {
		all, _, err := d.operations()
		if err != nil {
			return nil, err
		}
		for _, o := range slices.Backward(all) {
			if o.undoable() {
				return o, nil
			}
		}
		return nil, ErrNothingToUndo
	}
	if err := checkID(id); err != nil {
		return nil, err
	}
	o, err := d.operation(id)
	switch {
	case err != nil:
		return nil, err
	case o == nil:
		return nil, fmt.Errorf("%w of %s: it moved nothing aside, or a bless, or an undo, took what it did", ErrNothingToUndo, id)
	case !o.undoable():
		return nil, fmt.Errorf("%s cannot be undone: it is not over, or it was secure", id)
	}
	return o, nil
}

// planUndo makes the moves of an undo: for each of the operation's, what is there now goes, and what it took comes back. That is
// an operation like any other, so that an undo can be undone.
func (d *Dir) planUndo(o *operation, id string) error {
	former, err := d.undoable(id)
	if err != nil {
		return err
	}
	o.Of, o.What = former.ID, "undo: "+former.What
	var errs []error
	for i, m := range former.Moves {
		if err := d.fits(m); err != nil {
			errs = append(errs, err)
		}
		o.Moves = append(o.Moves, move{From: m.From, Children: m.Children, Except: m.Except, Back: former.aside(i), Root: m.Root, Base: m.Base})
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w; what was moved lies in %s/", err, former.dir())
	}
	return nil
}

// fits reports whether what a move took can come back to where it was.
func (d *Dir) fits(m move) error {
	if m.Base != "" {
		s, err := d.ReadStamp(m.Root)
		if err != nil {
			return err
		}
		if s.Base != m.Base {
			return fmt.Errorf("%s is a part of an upper that has gone to another base since", quote(m.From))
		}
	}
	dir := m.From
	if !m.Children {
		dir = path.Dir(m.From)
	}
	if dir != "." && !slices.Contains(containers, dir) && !d.isDir(dir) {
		return fmt.Errorf("%s is no longer a directory", quote(dir))
	}
	return nil
}

// discard puts an entry of the state into the trash.
func (d *Dir) discard(rel string) error {
	src, name, err := d.parent(rel)
	if missing(err) {
		return nil
	}
	if err != nil {
		return d.wrap("discard", rel, err)
	}
	defer unix.Close(src)
	if err := d.mkdir(trashDir); err != nil {
		return err
	}
	dst, err := d.openDir(trashDir)
	if err != nil {
		return d.wrap("open", trashDir, err)
	}
	defer unix.Close(dst)
	as := name
	for n := 1; ; n++ {
		if err := d.change("discard " + rel); err != nil {
			return err
		}
		err := unix.Renameat2(src, name, dst, as, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if errors.Is(err, unix.EEXIST) && n < maxAside {
			as = name + "~" + strconv.Itoa(n)
			continue
		}
		if err != nil {
			return d.wrap("discard", rel, err)
		}
		break
	}
	if err := d.sync(dst, trashDir); err != nil {
		return err
	}
	return d.sync(src, rel)
}
