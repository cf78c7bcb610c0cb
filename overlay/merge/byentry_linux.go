package merge

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
)

// byEntry decides on a file that both sides changed and that is merged by entry. The metadata is merged as that of any file.
func (p *planner) byEntry(f Form, path string, o, n, u *node, s state, d *deed) error {
	old, known, err := p.spec.oldEntries(path)
	if err != nil {
		return err
	}
	text, notes, local, err := p.spec.mergeText(f, old, n, u)
	if errors.Is(err, ErrTooLong) {
		d.note = sentence(d.note, "too long to be merged by entry")
		return nil
	}
	if err != nil {
		return err
	}
	fresh, err := n.read(MaxText + 1)
	if err != nil {
		return err
	}
	meta := s.fresh &^ s.local &^ content
	if o == nil {
		meta = 0
	}
	left := s.apart &^ content &^ meta
	*d = deed{verdict: Merged, op: byEntry, take: meta, note: "by entry"}
	if !known && (o != nil || s.old == unknown) { // what the base dropped or changed cannot be told from what is local
		d.note = "by entry, without the old base's file"
	}
	switch {
	case bytes.Equal(text, fresh) && left == 0:
		d.verdict, d.op = Pruned, remove
	case bytes.Equal(text, local) && meta == 0:
		d.verdict, d.op = KeptLocal, leave
	}
	clash := s.local & s.fresh & s.apart &^ content
	if o == nil {
		clash = left
	}
	if clash != 0 {
		notes = append(notes, noteMeta+" differ on both sides: the local ones are kept")
	}
	if len(notes) > 0 {
		d.verdict, d.note = Conflict, d.note+": "+strings.Join(notes, "; ")
	}
	return nil
}

// mergeText merges a file by entry, and returns the local text too.
func (s *Spec) mergeText(f Form, old []byte, n, u *node) (text []byte, notes []string, local []byte, err error) {
	fresh, err1 := n.read(MaxText + 1)
	local, err2 := u.read(MaxText + 1)
	if err := errors.Join(err1, err2); err != nil {
		return nil, nil, nil, err
	}
	text, notes, err = MergeEntries(f, old, fresh, local, s.Owns)
	return text, notes, local, err
}

// oldEntries returns the old base's copy of a file that is merged by entry.
func (s *Spec) oldEntries(path string) (text []byte, known bool, err error) {
	if s.OldEntries == "" {
		return nil, false, nil
	}
	root, err := entry.OpenRoot(s.OldEntries)
	if err != nil {
		return nil, false, missing(err)
	}
	defer unix.Close(root)
	d, name := entry.Split(path)
	fd, err := entry.OpenBeneath(root, d)
	if err != nil {
		return nil, false, missing(err)
	}
	defer unix.Close(fd)
	n, err := look(fd, name)
	if err != nil || kindOf(n) != file {
		return nil, false, err
	}
	text, err = n.read(MaxText + 1)
	return text, err == nil, err
}

func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// SaveEntries copies what the lowers, bottom first, have of the files that are merged by entry to the directory to, which must
// not exist: what the merge after the next change of base needs as OldEntries. Each copy is durable, to is when the caller has
// synced its directory.
func (s *Spec) SaveEntries(to string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	v, err := openView(s.Lowers)
	if err != nil {
		return err
	}
	defer v.close()
	globs := slices.Clone(s.Entries)
	for name := range forms {
		switch path.Clean(s.Path) {
		case "/":
			globs = append(globs, "etc/"+name)
		case "/etc":
			globs = append(globs, name)
		}
	}
	fd, err := entry.OpenRoot(to)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, glob := range globs {
		if err := saveGlob(v, fd, glob); err != nil {
			return err
		}
	}
	return entry.Sync(fd, "")
}

// saveGlob copies the files that a glob means, directory by directory, so that nothing else is looked at.
func saveGlob(v *view, to int, glob string) error {
	first, rest, more := strings.Cut(glob, "/")
	names := []string{first}
	if strings.ContainsAny(first, `*?[\`) {
		var err error
		if names, err = v.names(); err != nil {
			return err
		}
	}
	for _, name := range names {
		if ok, _ := path.Match(first, name); !ok {
			continue
		}
		n, err := v.child(name)
		if err != nil {
			return err
		}
		switch {
		case more && kindOf(n) == dir:
			err = saveBelow(v, to, name, rest)
		case !more && kindOf(n) == file && n.Size <= MaxText && !entry.Exists(to, name):
			c := entry.Copier{Sync: true}
			err = c.Node(n.dir, name, to, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func saveBelow(v *view, to int, name, glob string) error {
	sub, err := v.enter(name)
	if err != nil {
		return err
	}
	defer sub.close()
	if err := unix.Mkdirat(to, name, 0o700); err != nil && err != unix.EEXIST {
		return &fs.PathError{Op: "mkdir", Path: name, Err: err}
	}
	fd, err := entry.OpenDir(to, name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return errors.Join(saveGlob(sub, fd, glob), entry.Sync(fd, ""))
}
