package merge

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
)

// node is one side of a path. What costs something to know is found out when it is asked for.
type node struct {
	Entry
	kind   kind
	st     entry.Stat
	attrs  []entry.Xattr
	marks  entry.Marks
	dir    int // where it lies; -1 for an entry of an index, of which all is known
	name   string
	hashed bool
}

// look finds an entry on disk; nil is nothing.
func look(fd int, name string) (*node, error) {
	st, err := entry.At(fd, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n := &node{st: st, dir: fd, name: name, kind: kind(letters[st.Kind()>>12])}
	n.Mode, n.UID, n.GID = st.Mode, st.UID, st.GID
	switch {
	case st.Whiteout():
		n.kind = whiteout
		return n, nil
	case n.kind == file:
		n.Size = st.Size
	case n.kind == link:
		n.Target, err = entry.Readlink(fd, name)
	default:
		n.Major, n.Minor = st.Major, st.Minor
	}
	if err == nil {
		n.attrs, n.marks, err = entry.Xattrs(fd, name)
	}
	n.Xattrs = XattrDigest(n.attrs)
	return n, err
}

// indexed is the side that an index remembers.
func indexed(e Entry) *node {
	return &node{Entry: e, kind: kind(letters[e.kind()>>12]), dir: -1, hashed: true}
}

func kindOf(n *node) kind {
	if n == nil {
		return absent
	}
	return n.kind
}

// differ tells two entries of one type apart. Content is read only where the sizes are equal.
func differ(a, b *node) (d bits, err error) {
	if a.kind != link && (a.Mode^b.Mode)&0o7777 != 0 {
		d |= mode
	}
	if a.UID != b.UID || a.GID != b.GID {
		d |= owner
	}
	if a.Xattrs != b.Xattrs {
		d |= xattrs
	}
	if a.kind == dir {
		return d, nil
	}
	same := a.Size == b.Size && a.Target == b.Target && a.Major == b.Major && a.Minor == b.Minor
	if same && a.kind == file && a.Size > 0 {
		err = errors.Join(a.hash(), b.hash())
		same = a.SHA256 == b.SHA256
	}
	if !same {
		d |= content
	}
	return d, err
}

// hash reads the content of a file, once.
func (n *node) hash() error {
	if n.hashed || n.kind != file {
		return nil
	}
	fd, err := entry.OpenFile(n.dir, n.name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	h := sha256.New()
	buf := make([]byte, min(max(n.Size, 1), 128<<10))
	for at := int64(0); ; {
		k, err := unix.Pread(fd, buf, at)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "read", Path: n.name, Err: err}
		}
		if k <= 0 {
			break
		}
		h.Write(buf[:k])
		at += int64(k)
	}
	h.Sum(n.SHA256[:0])
	n.hashed = true
	return nil
}

// read returns the content of a file of at most limit bytes; what is larger is cut there.
func (n *node) read(limit int) ([]byte, error) {
	fd, err := entry.OpenFile(n.dir, n.name)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var text bytes.Buffer
	buf := make([]byte, 32<<10)
	for text.Len() < limit {
		k, err := unix.Pread(fd, buf, int64(text.Len()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: n.name, Err: err}
		}
		if k <= 0 {
			break
		}
		text.Write(buf[:min(k, limit-text.Len())])
	}
	return text.Bytes(), nil
}

// entryAt is the node as an entry of an index.
func (n *node) entryAt(path string) (Entry, error) {
	err := n.hash()
	e := n.Entry
	if e.Path = path; path == "" {
		e.Path = "."
	}
	return e, err
}

// Scan collects what a directory holds, or what several ones show when they are stacked, bottom first.
func Scan(lowers ...string) (*Builder, error) {
	v, err := openView(lowers)
	if err != nil {
		return nil, err
	}
	defer v.close()
	b := &Builder{}
	add := func(n *node, path string) (bool, error) {
		e, err := n.entryAt(path)
		if err == nil {
			err = b.Add(e)
		}
		return true, err
	}
	self, err := v.self()
	if err != nil || self == nil {
		return b, err
	}
	if _, err := add(self, "."); err != nil {
		return nil, err
	}
	_, err = v.below("", 0, add)
	return b, err
}
