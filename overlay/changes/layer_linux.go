package changes

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// beneath is how anything in a layer is opened: no link, no mount and no ".." leads out of it.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// Marks of overlayfs on the entries of a layer (Documentation/filesystems/overlayfs.rst).
const (
	markPrefix   = "trusted.overlay."
	markOpaque   = markPrefix + "opaque"
	markRedirect = markPrefix + "redirect"
	markMetacopy = markPrefix + "metacopy"
	markWhiteout = markPrefix + "whiteout" // on an empty file, where no device can be made
)

// dir is an open directory of a layer.
type dir struct {
	fd    int
	layer int    // index in its tree, 0 is the top
	path  string // in the layer; "." is its root
	inode inode
}

type inode struct{ dev, ino uint64 }

// entry is a name in a directory of a layer, with what overlayfs makes of it.
type entry struct {
	in       dir
	name     string
	st       unix.Stat_t
	xattrs   []string // names, without the marks of overlayfs; sorted
	whiteout bool
	opaque   bool
	metacopy bool   // the content is that of the next layer
	redirect string // where the layers below have it: a name, or a path from their root
}

func (e *entry) path() string { return join(e.in.path, e.name) }

func (e *entry) inode() inode { return inode{uint64(e.st.Dev), e.st.Ino} }

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// openRoot opens the directory of a layer. The path to it is the machine's own, and may hold links.
func openRoot(path string, layer int) (dir, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return dir{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	d := dir{fd: fd, layer: layer, path: "."}
	return d, d.identify()
}

func (d *dir) identify() error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		unix.Close(d.fd)
		return &fs.PathError{Op: "stat", Path: d.path, Err: err}
	}
	d.inode = inode{uint64(st.Dev), st.Ino}
	return nil
}

// open opens the directory name of d, or a path below it.
func (d dir) open(name string) (dir, error) {
	sub := dir{layer: d.layer, path: join(d.path, name)}
	var err error
	sub.fd, err = openBeneath(d.fd, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return dir{}, &fs.PathError{Op: "open", Path: sub.path, Err: err}
	}
	return sub, sub.identify()
}

func openBeneath(at int, name string, flags uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: beneath}
	for {
		fd, err := unix.Openat2(at, name, &how)
		if err == unix.EINTR || err == unix.EAGAIN { // openat2(2): a rename during the look-up
			continue
		}
		return fd, err
	}
}

// missing says that a name is not there. ENOTDIR, ELOOP and EXDEV mean that something else stands on the way to it, which in
// an overlay is the same.
func missing(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EXDEV)
}

// stat looks name up in d. Nothing is found when neither an entry nor an error is returned.
func (d dir) stat(name string) (*entry, error) {
	if len(name) > unix.NAME_MAX || name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return nil, nil
	}
	e := &entry{in: d, name: name}
	if err := unix.Fstatat(d.fd, name, &e.st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if missing(err) {
			return nil, nil
		}
		return nil, &fs.PathError{Op: "stat", Path: e.path(), Err: err}
	}
	if e.kind() == Char && e.st.Rdev == 0 {
		e.whiteout = true
		return e, nil
	}
	return e, e.readMarks()
}

// self is the entry of d as a whole: the root of a layer.
func (d dir) self() (*entry, error) {
	e := &entry{in: d, name: "."}
	if err := unix.Fstat(d.fd, &e.st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: d.path, Err: err}
	}
	return e, e.readMarks()
}

// procPath names an entry for the calls that take no directory. Its last part is not followed by those that begin with an l.
func (e *entry) procPath() string {
	return "/proc/self/fd/" + strconv.Itoa(e.in.fd) + "/" + e.name
}

func (e *entry) readMarks() error {
	names, err := e.listXattrs()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, markPrefix) {
			e.xattrs = append(e.xattrs, name)
			continue
		}
		switch name {
		case markMetacopy:
			e.metacopy = e.kind() == File
		case markWhiteout:
			e.whiteout = e.kind() == File && e.st.Size == 0
		case markOpaque:
			v, err := e.xattr(name)
			if err != nil {
				return err
			}
			e.opaque = string(v) == "y" // "x" says only that there are whiteouts of the other form
		case markRedirect:
			v, err := e.xattr(name)
			if err != nil {
				return err
			}
			if e.redirect, err = parseRedirect(v); err != nil {
				return &fs.PathError{Op: "read " + markRedirect, Path: e.path(), Err: err}
			}
		}
	}
	slices.Sort(e.xattrs)
	return nil
}

// parseRedirect reads the value of a redirect as overlayfs does (ovl_check_redirect in fs/overlayfs/namei.c): a single name
// in the same directory, or a path from the root of the layers. The leading slash is kept.
func parseRedirect(v []byte) (string, error) {
	v = bytes.TrimRight(v, "\x00")
	s := string(v)
	bad := fmt.Errorf("%q is no redirect", s)
	if s == "" || strings.Contains(s, "\x00") || len(s) > unix.PathMax {
		return "", bad
	}
	parts := []string{s}
	if s[0] == '/' {
		parts = strings.Split(s[1:], "/")
	}
	for _, p := range parts {
		if p == "" || p == "." || p == ".." || strings.Contains(p, "/") {
			return "", bad
		}
	}
	return s, nil
}

func (e *entry) listXattrs() ([]string, error) {
	var small [1024]byte
	buf := small[:]
	n, err := unix.Llistxattr(e.procPath(), buf)
	if err == unix.ERANGE {
		buf = make([]byte, 1<<16) // XATTR_LIST_MAX: the kernel gives no longer list
		n, err = unix.Llistxattr(e.procPath(), buf)
	}
	if err == unix.EOPNOTSUPP || missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "listxattr", Path: e.path(), Err: err}
	}
	return splitNames(buf[:n]), nil
}

func splitNames(list []byte) []string {
	if len(list) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00")
}

// xattr reads a value, nil when it has gone.
func (e *entry) xattr(name string) ([]byte, error) {
	var small [512]byte
	buf := small[:]
	n, err := unix.Lgetxattr(e.procPath(), name, buf)
	if err == unix.ERANGE {
		buf = make([]byte, 1<<16) // XATTR_SIZE_MAX
		n, err = unix.Lgetxattr(e.procPath(), name, buf)
	}
	if err == unix.ENODATA || err == unix.EOPNOTSUPP || missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "getxattr " + name, Path: e.path(), Err: err}
	}
	return append([]byte{}, buf[:n]...), nil
}

// names returns what d holds, in no order.
func (d dir) names() ([]string, error) {
	// A directory of its own: one that is read moves, and d may be read again.
	fd, err := openBeneath(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: d.path, Err: err}
	}
	defer unix.Close(fd)
	var names []string
	buf := make([]byte, 1<<15)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return names, &fs.PathError{Op: "read", Path: d.path, Err: err}
		}
		if n <= 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// target is what a link says.
func (e *entry) target() (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(e.in.fd, e.name, buf)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: e.path(), Err: err}
	}
	return string(buf[:n]), nil
}
