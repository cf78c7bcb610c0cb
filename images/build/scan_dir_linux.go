package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// dirSource is a directory that holds a root file system. It is only read, and where the kernel lets us, without a trace in
// the access times.
type dirSource struct{ dir string }

// scanDir lists a directory tree.
func scanDir(ctx context.Context, dir string) (*Tree, error) {
	t := &Tree{Source: dir, content: dirSource{dir}}
	s := dirScan{ctx: ctx, tree: t, dir: dir, inodes: map[[2]uint64]int{}, root: os.Geteuid() == 0}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, fmt.Errorf("source: %w", &os.PathError{Op: "stat", Path: dir, Err: err})
	}
	s.device = st.Dev
	t.Root = s.entry(".", dir, &st)
	if err := s.walk(""); err != nil {
		return nil, fmt.Errorf("scan %s: %w", dir, err)
	}
	t.finish()
	return t, nil
}

// dirScan is a walk in progress.
type dirScan struct {
	ctx    context.Context
	tree   *Tree
	dir    string
	device uint64
	inodes map[[2]uint64]int // device and inode number -> Entry.inode
	root   bool              // no permission is checked for us
}

// walk lists the directory rel, which ends in a slash unless it is empty. What cannot be read becomes a finding: the scan
// goes on, so that all of it is reported at once.
func (s *dirScan) walk(rel string) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Join(s.dir, rel))
	if err != nil {
		s.unreadable(strings.TrimSuffix(rel, "/"), err)
		return nil
	}
	names, err := dir.Readdirnames(-1)
	if err = errors.Join(err, dir.Close()); err != nil {
		s.unreadable(strings.TrimSuffix(rel, "/"), err)
		return nil
	}
	slices.Sort(names)
	for _, name := range names {
		path := s.dir + "/" + rel + name
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			s.unreadable(rel+name, err)
			continue
		}
		e := s.entry(rel+name, path, &st)
		s.tree.Entries = append(s.tree.Entries, &e)
		if !e.isDir() {
			continue
		}
		if st.Dev != s.device {
			s.tree.found.add(LossMounts, e.Path, "another file system is mounted here")
		}
		if err := s.walk(rel + name + "/"); err != nil {
			return err
		}
	}
	return nil
}

func (s *dirScan) unreadable(path string, err error) {
	remedy := "make it readable, or build as root, or from a tar archive"
	if s.root {
		remedy = "look at the file system that the source lies on"
	}
	s.tree.found.refuse(path, err.Error(), remedy)
}

func (s *dirScan) entry(rel, path string, st *unix.Stat_t) Entry {
	e := Entry{Path: rel, Mode: st.Mode, UID: st.Uid, GID: st.Gid, Mtime: time.Unix(st.Mtim.Unix())}
	var err error
	switch e.kind() {
	case unix.S_IFREG:
		e.Size = st.Size
		if !s.root {
			err = unix.Faccessat(unix.AT_FDCWD, path, unix.R_OK, unix.AT_EACCESS)
		}
	case unix.S_IFLNK:
		e.Target, err = os.Readlink(path)
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Major, e.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	}
	if err != nil {
		s.unreadable(rel, err)
	}
	if e.Xattrs, err = readXattrs(path); err != nil {
		s.unreadable(rel, fmt.Errorf("extended attributes: %w", err))
	}
	if kind := e.kind(); kind == unix.S_IFREG || kind == unix.S_IFDIR {
		s.flags(rel, path)
	}
	if st.Nlink > 1 && !e.isDir() {
		key := [2]uint64{st.Dev, st.Ino}
		if s.inodes[key] == 0 {
			s.inodes[key] = len(s.inodes) + 1
		}
		e.inode = s.inodes[key]
	}
	return e
}

// flags notes the flags of chattr that say who may change a file. The others are about how a file system stores it, or a hint to
// a program that makes backups, and fs-verity gives way to what guards the whole image.
func (s *dirScan) flags(rel, path string) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &st) // unlike FS_IOC_GETFLAGS it needs not open the file
	switch {
	case errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM): // of a sandbox that does not know it
	case err != nil:
		s.unreadable(rel, err)
	case st.Attributes&unix.STATX_ATTR_IMMUTABLE != 0:
		s.tree.found.add(LossFlags, rel, "immutable")
	case st.Attributes&unix.STATX_ATTR_APPEND != 0:
		s.tree.found.add(LossFlags, rel, "append-only")
	}
}

// readXattrs returns the extended attributes of a file, not of what a link leads to.
func readXattrs(path string) ([]Xattr, error) {
	names, err := readGrowing(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if errors.Is(err, unix.ENOTSUP) || len(names) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Xattr
	for _, name := range strings.Split(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		value, err := readGrowing(func(b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		list = append(list, Xattr{name, value})
	}
	slices.SortFunc(list, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// readGrowing calls read with a buffer that is large enough, as long as the size grows meanwhile.
func readGrowing(read func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := read(nil)
		if n <= 0 || err != nil {
			return nil, err
		}
		buf := make([]byte, n)
		n, err = read(buf)
		if errors.Is(err, unix.ERANGE) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}

func (d dirSource) open(e *Entry) (io.ReadCloser, error) {
	path := filepath.Join(d.dir, e.Path)
	const flags = os.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK
	f, err := os.OpenFile(path, flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) { // only the owner may
		f, err = os.OpenFile(path, flags, 0)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() != e.Size || !info.ModTime().Equal(e.Mtime)) {
		err = fmt.Errorf("%s changed while the image was built; build from a tree that nobody writes to", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (dirSource) Close() error { return nil }
