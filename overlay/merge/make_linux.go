package merge

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
)

// replace makes the new version of a file, link or device in the scratch directory and puts it in the place of the old one.
func (m *maker) replace(fd int, u *node, d string, a Action) error {
	n, err := m.find(a.Path)
	if err != nil {
		return err
	}
	defer n.close()
	if n.node == nil {
		return nil
	}
	if err := m.clear(); err != nil {
		return err
	}
	if err := m.step("make "+a.Path, func() error { return m.make(u, n.node, a) }); err != nil {
		return err
	}
	return m.step("replace "+a.Path, func() error { return rename(m.scratch, makingTmp, fd, u.name) })
}

func (m *maker) clear() error {
	if !entry.Exists(m.scratch, makingTmp) {
		return nil
	}
	return m.step("clear the scratch directory", func() error { return entry.Remove(m.scratch, makingTmp) })
}

// make writes the merge of two entries of one type, durably.
func (m *maker) make(u, n *node, a Action) error {
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
		if err := entry.Write(m.scratch, makingTmp, text); err != nil {
			return err
		}
		if n.st.Sec > u.st.Sec { // the time of the younger one
			from = n
		}
	} else {
		c := entry.Copier{}
		if err := c.Node(from.dir, from.name, m.scratch, makingTmp); err != nil {
			return err
		}
	}
	err := entry.SetMeta(m.scratch, makingTmp, st, unmarked(attrs))
	if err == nil {
		err = entry.SetTime(m.scratch, makingTmp, from.st)
	}
	if err == nil {
		err = entry.Sync(m.scratch, makingTmp)
	}
	return err
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

// lay puts a copy of the base's side beside an entry. One that somebody has edited is not touched.
func (m *maker) lay(fd int, name, d string, a Action) error {
	old, replaceable, err := m.sideThere(fd, name, a.Side)
	if err != nil || old == a.Digest || !replaceable {
		return err
	}
	v, err := m.base.at(d)
	if err != nil || v == nil {
		return err
	}
	defer v.close()
	if err := m.clear(); err != nil {
		return err
	}
	err = m.step("copy the side "+a.Side, func() error {
		c := entry.Copier{Sync: true}
		if err := copyView(v, name, &c, m.scratch, makingTmp, 0); err != nil {
			return err
		}
		mark := entry.Xattr{Name: sideAttr, Value: []byte(a.Digest + " " + name)}
		return errors.Join(entry.SetXattr(m.scratch, makingTmp, mark), entry.Sync(m.scratch, makingTmp))
	})
	if err != nil {
		return err
	}
	if old != "" { // a directory does not give way to a rename
		if err := m.step("remove the older side "+a.Side, func() error { return entry.Remove(fd, a.Side) }); err != nil {
			return err
		}
	}
	return m.step("name the side "+a.Side, func() error { return rename(m.scratch, makingTmp, fd, a.Side) })
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

// unlay removes a side that nobody has edited.
func (m *maker) unlay(fd int, a Action) error {
	n, err := look(fd, a.Side)
	if err != nil || n == nil {
		return err
	}
	s, _, ok := sideMark(n)
	if !ok || s.digest != a.Digest {
		return nil
	}
	// A directory is removed name by name; moved away first, it is there or it is not.
	if err := m.clear(); err != nil {
		return err
	}
	err = m.step("move the side "+a.Side+" away", func() error { return rename(fd, a.Side, m.scratch, makingTmp) })
	if err != nil {
		return err
	}
	return m.clear()
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
