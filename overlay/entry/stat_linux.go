package entry

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// ErrOtherFileSystem means that something is mounted below the tree, which is then left alone: unmount it first.
var ErrOtherFileSystem = errors.New("another file system is mounted here")

// ErrTooDeep means that a tree has more levels than MaxDepth: no path can lead there, and no installer makes such a thing.
var ErrTooDeep = errors.New("directories are nested too deeply")

// MaxDepth is the deepest nesting that a walk enters. Each level costs a descriptor.
const MaxDepth = 200

// Stat is what an entry is, as statx(2) tells it without following a link.
type Stat struct {
	Mode         uint32 // type and permissions as in stat(2)
	UID, GID     uint32
	Size         int64
	Major, Minor uint32 // of a device
	Sec          int64  // time of modification
	Nsec         uint32
	Dev, Ino     uint64
	Links        uint32
	Fixed        bool // chattr +i or +a: not to be changed or removed
	Mounted      bool // the root of a mount
}

// Kind is the type of the entry, as in S_IFMT.
func (s *Stat) Kind() uint32 { return s.Mode & unix.S_IFMT }

// Dir claims that the entry is a directory.
func (s *Stat) Dir() bool { return s.Kind() == unix.S_IFDIR }

// Whiteout claims that the entry is overlayfs's mark of a deleted name: a character device 0:0. The other form, an empty file
// with an attribute, is never made on the file systems that an upper of ours lies on.
func (s *Stat) Whiteout() bool { return s.Kind() == unix.S_IFCHR && s.Major == 0 && s.Minor == 0 }

// At looks at an entry.
func At(dir int, name string) (Stat, error) {
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	var x unix.Statx_t
	if err := unix.Statx(dir, name, flags, unix.STATX_BASIC_STATS, &x); err != nil {
		return Stat{}, fail("stat", name, err)
	}
	return Stat{
		Mode: uint32(x.Mode), UID: x.Uid, GID: x.Gid, Size: int64(x.Size), Major: x.Rdev_major, Minor: x.Rdev_minor,
		Sec: x.Mtime.Sec, Nsec: x.Mtime.Nsec, Dev: unix.Mkdev(x.Dev_major, x.Dev_minor), Ino: x.Ino, Links: x.Nlink,
		Fixed:   x.Attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0,
		Mounted: x.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0,
	}, nil
}

// Exists claims that the name is taken; what cannot be looked at counts as taken.
func Exists(dir int, name string) bool {
	_, err := At(dir, name)
	return !errors.Is(err, fs.ErrNotExist)
}

// OpenDir opens a directory for reading.
func OpenDir(dir int, name string) (int, error) {
	if name == "" {
		name = "."
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	return fd, fail("open", name, err)
}

// OpenFile opens a regular file for reading, without leaving a trace in its access time.
func OpenFile(dir int, name string) (int, error) {
	// O_NONBLOCK: a fifo that took the place of the file must not stop us.
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, name, flags|unix.O_NOATIME, 0)
	if err == unix.EPERM { // only the owner may
		fd, err = unix.Openat(dir, name, flags, 0)
	}
	return fd, fail("open", name, err)
}

// OpenBeneath opens the directory path, slash-separated and relative, below root; no component may be a link or a mount.
func OpenBeneath(root int, path string) (int, error) {
	if path == "" {
		path = "."
	}
	fd, err := unix.Openat2(root, path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	return fd, fail("open", path, err)
}

// OpenRoot opens the directory at a path that is trusted, as the caller wrote it.
func OpenRoot(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return fd, fail("open", path, err)
}

// Readlink returns where a symbolic link points.
func Readlink(dir int, name string) (string, error) {
	buf := make([]byte, 4097)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", fail("readlink", name, err)
	}
	return string(buf[:n]), nil
}

// fail gives an error its operands, in the shape of package os.
func fail(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}
