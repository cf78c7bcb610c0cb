package merge

import (
	"io/fs"

	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
)

// prepare writes what an action puts into the upper to the scratch directory.
func (m *maker) prepare(at place, made string, a Action) error {
	_, name := entry.Split(a.Path)
	switch a.Op {
	case besides:
		return m.copySide(at, name, made, a)
	case take, byEntry:
	default:
		return nil
	}
	u, err := look(at.fd, name)
	if err != nil || u == nil || u.kind == dir || !a.fits(u) {
		return err
	}
	n, err := m.find(a.Path)
	if err != nil {
		return err
	}
	defer n.close()
	if n.node == nil {
		return nil
	}
	return m.step("make "+a.Path, func() error { return m.make(u, n.node, made, a) })
}

// make writes the merge of two entries of one type.
func (m *maker) make(u, n *node, made string, a Action) error {
	st, attrs := mixed(u, n, a.Take)
	from := u
	if a.Take&content != 0 {
		from = n
	}
	if a.Op == byEntry {
		f, _ := m.spec.form(a.Path)
		old, _, err := m.spec.oldEntries(a.Path)
		if err != nil {
			return err
		}
		text, _, _, err := m.spec.mergeText(f, old, n, u)
		if err != nil {
			return err
		}
		if err := entry.Write(m.making, made, text); err != nil {
			return err
		}
		if n.st.Sec > u.st.Sec { // the time of the younger one
			from = n
		}
	} else {
		c := entry.Copier{}
		if err := c.Node(from.dir, from.name, m.making, made); err != nil {
			return err
		}
	}
	if err := entry.SetMeta(m.making, made, st, unmarked(attrs)); err != nil {
		return err
	}
	return entry.SetTime(m.making, made, from.st)
}

// unmarked leaves the mark of a side out.
func unmarked(attrs []entry.Xattr) (kept []entry.Xattr) {
	for _, x := range attrs {
		if x.Name != sideAttr {
			kept = append(kept, x)
		}
	}
	return kept
}

// copySide copies the base's side of an entry, unless it lies there already.
func (m *maker) copySide(at place, name, made string, a Action) error {
	old, replaceable, err := m.sideThere(at.fd, name, a.Side)
	if err != nil || old == a.Digest || !replaceable {
		return err
	}
	v, err := m.base.at(at.path)
	if err != nil || v == nil {
		return err
	}
	defer v.close()
	return m.step("copy the side "+a.Side, func() error {
		if err := copyView(v, name, &entry.Copier{}, m.making, made, 0); err != nil {
			return err
		}
		return entry.SetXattr(m.making, made, entry.Xattr{Name: sideAttr, Value: []byte(a.Digest + " " + name)})
	})
}

// lay puts the copy beside the entry. A side that somebody has edited is not touched.
func (m *maker) lay(at place, name, made string, a Action) error {
	old, replaceable, err := m.sideThere(at.fd, name, a.Side)
	if err != nil || old == a.Digest || !replaceable || !entry.Exists(m.making, made) {
		return err
	}
	if old != "" { // a directory does not give way to a rename, and one that is half removed would look edited
		err := m.step("move the older side "+a.Side+" away", func() error { return rename(at.fd, a.Side, m.making, made+".old") })
		if err != nil {
			return err
		}
	}
	return m.step("name the side "+a.Side, func() error { return rename(m.making, made, at.fd, a.Side) })
}

// sideThere returns the digest of the side that lies at a name, and whether the name may be given to another: it is free, or its
// side is as it was laid.
func (m *maker) sideThere(fd int, of, name string) (digest string, replaceable bool, err error) {
	n, err := look(fd, name)
	if err != nil || n == nil {
		return "", err == nil, err
	}
	s, is, ok := sideMark(n)
	if !ok || is != of {
		return "", false, nil
	}
	now, fits, err := sideDigest(&view{dirs: []int{fd}}, name)
	if err != nil || !fits || now != s.digest {
		return "", false, err
	}
	return s.digest, true, nil
}

// unlay removes a side that nobody has edited: it is moved away first, so that it is there as a whole or not at all.
func (m *maker) unlay(at place, made string, a Action) error {
	n, err := look(at.fd, a.Side)
	if err != nil || n == nil {
		return err
	}
	s, _, ok := sideMark(n)
	if !ok || s.digest != a.Digest {
		return nil
	}
	return m.step("move the side "+a.Side+" away", func() error { return rename(at.fd, a.Side, m.making, made) })
}

// copyView copies what shows at a name of a view to a name that must be free.
func copyView(v *view, name string, c *entry.Copier, to int, as string, depth int) error {
	n, err := v.child(name)
	if err != nil || n == nil {
		return err
	}
	if err := c.Node(n.dir, name, to, as); err != nil || n.kind != dir {
		return err
	}
	if depth > entry.MaxDepth {
		return entry.ErrTooDeep
	}
	sub, err := v.enter(name)
	if err != nil {
		return err
	}
	defer sub.close()
	fd, err := entry.OpenDir(to, as)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := sub.names()
	if err != nil {
		return err
	}
	for _, child := range names {
		if err := copyView(sub, child, c, fd, child, depth+1); err != nil {
			return &fs.PathError{Op: "copy", Path: child, Err: err}
		}
	}
	return c.Finish(n.dir, name, to, as)
}
