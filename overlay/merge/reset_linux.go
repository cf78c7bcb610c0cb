package merge

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
)

// resetTemp is where Reset makes what it puts into place.
const resetTemp = ".veneer-reset.tmp"

// Reset makes a path, and all below it, what it is in the base: local edits are replaced, what was added is removed, what was
// deleted comes back. "." is the whole directory. What the upper then holds is equal to the base, and the next merge prunes it.
//
// Where that fails for some paths it goes on with the others: what it returns was done, and the error names each of the rest, which
// are as they were, with the side of the base that lies beside them.
func (r Resolver) Reset(path string) ([]Change, error) {
	base, err := openView(r.Lowers)
	if err != nil {
		return nil, err
	}
	defer base.close()
	merged, err := entry.OpenRoot(r.Merged)
	if err != nil {
		return nil, err
	}
	defer unix.Close(merged)
	upper, err := entry.OpenRoot(r.Upper)
	if err != nil {
		return nil, missing(err)
	}
	defer unix.Close(upper)
	s := &resetter{dry: r.DryRun, done: []Change{}}
	if path == "." || path == "" {
		err := s.dir(merged, upper, base, "", false)
		return s.done, err
	}
	d, name := entry.Split(path)
	v, err := base.at(d)
	if err != nil {
		return nil, err
	}
	defer v.close()
	up, err := entry.OpenBeneath(upper, d)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return s.done, nil // nothing local on the way there
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(up)
	in, err := entry.OpenBeneath(merged, d)
	if err != nil {
		return nil, err
	}
	defer unix.Close(in)
	hidden, err := hides(upper, d)
	if err == nil && (hidden || entry.Exists(up, name)) {
		err = s.entry(in, up, v, name, path, hidden)
	}
	return s.done, err
}

// hides claims that the upper's directory d, or one above it, is opaque.
func hides(upper int, d string) (bool, error) {
	for path := d; path != ""; {
		up, name := entry.Split(path)
		fd, err := entry.OpenBeneath(upper, up)
		if err != nil {
			return false, err
		}
		_, marks, err := entry.Xattrs(fd, name)
		unix.Close(fd)
		if err != nil || marks.Opaque {
			return err == nil, err
		}
		path = up
	}
	return false, nil
}

type resetter struct {
	dry  bool
	done []Change
}

// dir resets what is local in a directory: what the upper has, and, where the upper hides the base, what the base has.
func (s *resetter) dir(merged, upper int, base *view, path string, hidden bool) error {
	names, err := entry.Names(upper)
	if err != nil {
		return err
	}
	if hidden {
		shown, err := base.names()
		if err != nil {
			return err
		}
		names = union(shown, names)
	}
	later, err := postponed(merged, names)
	if err != nil {
		return about(cmp.Or(path, "."), err)
	}
	var errs []error
	for _, name := range names {
		if !later[name] {
			errs = append(errs, s.entry(merged, upper, base, name, join(path, name), hidden))
		}
	}
	return errors.Join(errs...)
}

// postponed are the sides that go with the names that they are sides of, once those are as in the base.
func postponed(merged int, names []string) (map[string]bool, error) {
	all, err := sides(merged, names)
	later := map[string]bool{}
	for of, list := range all {
		if _, there := slices.BinarySearch(names, of); !there {
			continue
		}
		for _, side := range list {
			later[side.name] = !side.edited
		}
	}
	return later, err
}

// entry resets one name, and then ends its conflict. An error names the path.
func (s *resetter) entry(merged, upper int, base *view, name, path string, hidden bool) error {
	n, err := base.child(name)
	var m *node
	if err == nil {
		m, err = look(merged, name)
	}
	switch {
	case err != nil:
	case m == nil && n == nil:
		return nil
	case n == nil:
		err = s.replace(merged, name, path, "removed", func() error { return entry.Remove(merged, name) })
	case m == nil:
		err = s.put(merged, base, name, path, "restored")
	case m.kind != n.kind:
		err = s.put(merged, base, name, path, "replaced by what the base has")
	case m.kind == dir:
		// What is below names itself.
		if err := s.below(merged, upper, base, name, path, hidden); err != nil {
			return err
		}
		err = s.unequal(m, n, func() error {
			if m.st.Fixed {
				return fixedAt(path, nil)
			}
			return s.do(path, "owner, mode and attributes as the base has them", func() error { return entry.SetMeta(merged, name, n.st, n.attrs) })
		})
	default:
		err = s.unequal(m, n, func() error { return s.put(merged, base, name, path, "replaced by what the base has") })
	}
	if err == nil && n != nil {
		err = s.sides(merged, name, path)
	}
	if err != nil && !errors.Is(err, ErrFixed) { // which names what is fixed
		return about(path, err)
	}
	return err
}

func (s *resetter) unequal(m, n *node, do func() error) error {
	d, err := differ(m, n)
	if err != nil || d == 0 {
		return err
	}
	return do()
}

func (s *resetter) below(merged, upper int, base *view, name, path string, hidden bool) error {
	u, err := look(upper, name)
	if err != nil || kindOf(u) != dir {
		return err
	}
	sub, err := base.enter(name)
	if err != nil {
		return err
	}
	defer sub.close()
	up, err := entry.OpenDir(upper, name)
	if err != nil {
		return err
	}
	defer unix.Close(up)
	in, err := entry.OpenDir(merged, name)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	return s.dir(in, up, sub, path, hidden || u.marks.Opaque)
}

// put puts what the base has in the place of what is here.
func (s *resetter) put(merged int, base *view, name, path, what string) error {
	return s.replace(merged, name, path, what, func() error {
		if err := entry.Remove(merged, resetTemp); err != nil {
			return err
		}
		if err := copyView(base, name, &entry.Copier{Sync: true}, merged, resetTemp, 0); err != nil {
			return errors.Join(err, entry.Remove(merged, resetTemp))
		}
		if err := replaceBy(merged, resetTemp, name); err != nil {
			return errors.Join(err, entry.Remove(merged, resetTemp))
		}
		return entry.Sync(merged, "")
	})
}

// sides removes the sides of a name that nobody has edited: the conflict is over.
func (s *resetter) sides(merged int, name, path string) error {
	var all []string
	for i := 1; i <= maxSides; i++ {
		if n := sideName(name, i); entry.Exists(merged, n) {
			all = append(all, n)
		}
	}
	found, err := sides(merged, all)
	if err != nil {
		return err
	}
	d, _ := entry.Split(path)
	for _, side := range found[name] {
		if side.edited {
			continue
		}
		if err := s.replace(merged, side.name, join(d, side.name), "removed", func() error { return entry.Remove(merged, side.name) }); err != nil {
			return err
		}
	}
	return nil
}

// replace changes what is at a name of fd as a whole, unless somebody has made something of it immutable.
func (s *resetter) replace(fd int, name, path, what string, change func() error) error {
	if err := fixed(fd, name, path); err != nil {
		return err
	}
	return s.do(path, what, change)
}

func (s *resetter) do(path, what string, change func() error) error {
	if !s.dry {
		if err := change(); err != nil {
			return err
		}
	}
	s.done = append(s.done, Change{path, what})
	return nil
}
