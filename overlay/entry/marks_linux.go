package entry

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Attributes of overlayfs (Documentation/filesystems/overlayfs.rst). Of the others that it keeps, origin, impure, nlink, uuid and
// so on, none says anything about what an entry is, and all are worthless under another lower.
const (
	private  = "trusted.overlay."
	opaque   = private + "opaque"
	redirect = private + "redirect"
	metacopy = private + "metacopy"
)

// Marks are what overlayfs has noted on an entry.
type Marks struct {
	Opaque   bool // what the lowers have in this directory is hidden
	Redirect bool // the directory has another name in the lowers
	Metacopy bool // the content is still in a lower
}

// Xattr is an extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// Xattrs returns the attributes of an entry by name, those of overlayfs as Marks.
func Xattrs(dir int, name string) ([]Xattr, Marks, error) {
	var m Marks
	path, follow := reach(dir, name)
	list, get := unix.Llistxattr, unix.Lgetxattr
	if follow {
		list, get = unix.Listxattr, unix.Getxattr
	}
	names, err := growing(func(b []byte) (int, error) { return list(path, b) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, m, nil
	}
	if err != nil {
		return nil, m, fail("list attributes", name, err)
	}
	if len(names) == 0 {
		return nil, m, nil
	}
	var all []Xattr
	for _, attr := range strings.Split(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		switch attr {
		case redirect:
			m.Redirect = true
			continue
		case metacopy:
			m.Metacopy = true
			continue
		}
		if strings.HasPrefix(attr, private) && attr != opaque {
			continue
		}
		value, err := growing(func(b []byte) (int, error) { return get(path, attr, b) })
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, m, fail("read attribute "+attr, name, err)
		}
		if attr == opaque {
			m.Opaque = string(value) == "y"
			continue
		}
		at := len(all) // they are few: each goes to its place among those before it
		for at > 0 && all[at-1].Name > attr {
			at--
		}
		all = slices.Insert(all, at, Xattr{attr, value})
	}
	return all, m, nil
}

// SetXattr sets an attribute.
func SetXattr(dir int, name string, x Xattr) error {
	path, follow := reach(dir, name)
	set := unix.Lsetxattr
	if follow {
		set = unix.Setxattr
	}
	return fail("set attribute "+x.Name, name, set(path, x.Name, x.Value, 0))
}

// RemoveXattr removes an attribute, if it is there.
func RemoveXattr(dir int, name, attr string) error {
	path, follow := reach(dir, name)
	remove := unix.Lremovexattr
	if follow {
		remove = unix.Removexattr
	}
	if err := remove(path, attr); err != unix.ENODATA {
		return fail("remove attribute "+attr, name, err)
	}
	return nil
}

// SetXattrs makes want, which is sorted by name, the attributes of an entry; the marks of overlayfs stay.
func SetXattrs(dir int, name string, want []Xattr) error {
	have, _, err := Xattrs(dir, name)
	if err != nil {
		return err
	}
	for _, x := range have {
		if _, wanted := value(want, x.Name); !wanted {
			if err := RemoveXattr(dir, name, x.Name); err != nil {
				return err
			}
		}
	}
	for _, x := range want {
		if had, ok := value(have, x.Name); ok && bytes.Equal(had, x.Value) {
			continue
		}
		if err := SetXattr(dir, name, x); err != nil {
			return err
		}
	}
	return nil
}

func value(list []Xattr, name string) ([]byte, bool) {
	for _, x := range list {
		if x.Name == name {
			return x.Value, true
		}
	}
	return nil, false
}

// SetOpaque hides what the lowers have in a directory, or shows it again.
func SetOpaque(dir int, name string, on bool) error {
	if !on {
		return RemoveXattr(dir, name, opaque)
	}
	return SetXattr(dir, name, Xattr{opaque, []byte("y")})
}

// MakeWhiteout marks a name as deleted. The name must be free.
func MakeWhiteout(dir int, name string) error {
	return fail("make whiteout", name, unix.Mknodat(dir, name, unix.S_IFCHR, 0))
}

// reach is a path to an entry, and whether its last component has to be followed: a descriptor in /proc is a link to what it
// stands for, but a name below it is the entry itself.
func reach(dir int, name string) (path string, follow bool) {
	path = "/proc/self/fd/" + strconv.Itoa(dir)
	if name == "" {
		return path, true
	}
	return path + "/" + name, false
}

// growing calls read with a buffer that is large enough, as long as the size grows meanwhile.
func growing(read func([]byte) (int, error)) ([]byte, error) {
	buf := make([]byte, 256)
	for {
		n, err := read(buf)
		if err == nil {
			return buf[:n], nil
		}
		if err != unix.ERANGE {
			return nil, err
		}
		if n, err = read(nil); err != nil {
			return nil, err
		}
		buf = make([]byte, n+1)
	}
}
