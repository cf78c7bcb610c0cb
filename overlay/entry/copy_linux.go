package entry

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// Copier copies entries with everything: owner, mode, attributes, times to the nanosecond, links, devices, fifos and sockets,
// holes, and the hard links within one Copy. Blocks are shared where the file system can do that. Of overlayfs's
// own attributes it keeps none, or, with Marks, that a directory is opaque. Flags of chattr(1) are not copied.
//
// What it leaves behind after an error is incomplete: copy to a name that nobody looks at, and rename.
type Copier struct {
	Sync  bool // each file and directory is durable when its copy returns
	Marks bool // whole uppers: directories stay opaque
	links map[[2]uint64]place
}

// place is where the first copy of a file with several names lies.
type place struct {
	root int
	path string
}

// maxLinks bounds the memory for files with several names; beyond it each name becomes a file.
const maxLinks = 1 << 16

// Copy copies an entry, and what is in it, to a name that must be free.
func (c *Copier) Copy(from int, name string, to int, as string) error {
	c.links = map[[2]uint64]place{}
	return c.tree(from, name, to, as, place{to, as}, 0)
}

func (c *Copier) tree(from int, name string, to int, as string, at place, depth int) error {
	if depth > MaxDepth {
		return fail("copy", name, ErrTooDeep)
	}
	st, err := At(from, name)
	if err != nil {
		return err
	}
	if !st.Dir() {
		return c.node(from, name, st, to, as, at)
	}
	if depth > 0 && st.Mounted {
		return fail("copy", name, ErrOtherFileSystem)
	}
	if err := fail("mkdir", as, unix.Mkdirat(to, as, 0o700)); err != nil {
		return err
	}
	src, err := OpenDir(from, name)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := OpenDir(to, as)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	names, err := Names(src)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := c.tree(src, n, dst, n, place{at.root, at.path + "/" + n}, depth+1); err != nil {
			return err
		}
	}
	return c.Finish(from, name, to, as)
}

// Node copies one entry that is no directory; a directory becomes an empty one that Finish must complete. The name must be free.
func (c *Copier) Node(from int, name string, to int, as string) error {
	st, err := At(from, name)
	if err != nil {
		return err
	}
	if st.Dir() {
		return fail("mkdir", as, unix.Mkdirat(to, as, 0o700))
	}
	c.links = nil
	return c.node(from, name, st, to, as, place{})
}

func (c *Copier) node(from int, name string, st Stat, to int, as string, at place) error {
	id := [2]uint64{st.Dev, st.Ino}
	if st.Links > 1 {
		if first, ok := c.links[id]; ok {
			err := unix.Linkat(first.root, first.path, to, as, 0)
			if err != unix.EMLINK && err != unix.ENAMETOOLONG {
				return fail("link", as, err)
			}
		}
	}
	var err error
	switch st.Kind() {
	case unix.S_IFREG:
		err = c.content(from, name, to, as, st.Size)
	case unix.S_IFLNK:
		var target string
		if target, err = Readlink(from, name); err == nil {
			err = fail("symlink", as, unix.Symlinkat(target, to, as))
		}
	default:
		err = fail("mknod", as, unix.Mknodat(to, as, st.Mode, int(unix.Mkdev(st.Major, st.Minor))))
	}
	if err != nil {
		return err
	}
	if st.Links > 1 && c.links != nil && len(c.links) < maxLinks {
		c.links[id] = at
	}
	return c.Finish(from, name, to, as)
}

// Finish gives a copy the owner, mode, attributes and time of its original.
func (c *Copier) Finish(from int, name string, to int, as string) error {
	st, err := At(from, name)
	if err != nil {
		return err
	}
	attrs, marks, err := Xattrs(from, name)
	if err != nil {
		return err
	}
	if err := SetMeta(to, as, st, attrs); err != nil {
		return err
	}
	if c.Marks && marks.Opaque {
		if err := SetOpaque(to, as, true); err != nil {
			return err
		}
	}
	if err := SetTime(to, as, st); err != nil || !c.Sync {
		return err
	}
	return Sync(to, as)
}

// SetMeta gives an entry the owner and mode of st, and exactly these attributes.
func SetMeta(dir int, name string, st Stat, attrs []Xattr) error {
	// The owner first: a change takes the suid bit and file capabilities away. An ACL last: its mask stands in the mode.
	if err := SetOwner(dir, name, st.UID, st.GID); err != nil {
		return err
	}
	if err := SetMode(dir, name, st.Mode); err != nil {
		return err
	}
	return SetXattrs(dir, name, attrs)
}

// SetOwner changes owner and group.
func SetOwner(dir int, name string, uid, gid uint32) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	return fail("chown", name, unix.Fchownat(dir, name, int(uid), int(gid), flags))
}

// SetMode changes the permissions to those in mode; a symbolic link has none.
func SetMode(dir int, name string, mode uint32) error {
	if mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	// fchmodat(2) follows links and has no flags in our kernels, so that name must not have become one. The path through
	// /proc is the same: what name was when it was looked at is what it is, for the init has the tree to itself.
	if name == "" {
		return fail("chmod", name, unix.Fchmod(dir, mode&0o7777))
	}
	return fail("chmod", name, unix.Fchmodat(dir, name, mode&0o7777, 0))
}

// SetTime sets the time of modification, and of access with it.
func SetTime(dir int, name string, st Stat) error {
	t := unix.Timespec{Sec: st.Sec, Nsec: int64(st.Nsec)}
	if name == "" {
		path, _ := reach(dir, name)
		return fail("set time", name, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{t, t}, 0))
	}
	return fail("set time", name, unix.UtimesNanoAt(dir, name, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW))
}

// Sync makes a file or directory durable; for what cannot be opened, a link or a device, syncing its directory is enough.
func Sync(dir int, name string) error {
	st, err := At(dir, name)
	if err != nil {
		return err
	}
	var fd int
	switch st.Kind() {
	case unix.S_IFREG:
		fd, err = OpenFile(dir, name)
	case unix.S_IFDIR:
		fd, err = OpenDir(dir, name)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(fail("sync", name, unix.Fsync(fd)), unix.Close(fd))
}

// content copies the bytes of a file: by sharing its blocks, or else by reading what is no hole.
func (c *Copier) content(from int, name string, to int, as string, size int64) (err error) {
	src, err := OpenFile(from, name)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := unix.Openat(to, as, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fail("create", as, err)
	}
	defer func() { err = errors.Join(err, unix.Close(dst)) }()
	if size == 0 || unix.IoctlFileClone(dst, src) == nil {
		return nil
	}
	return fail("copy", name, copyData(dst, src, size))
}

func copyData(dst, src int, size int64) error {
	if err := unix.Ftruncate(dst, size); err != nil {
		return err
	}
	buf := make([]byte, min(size, 128<<10))
	for at := int64(0); at < size; {
		begin, err := unix.Seek(src, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil // a hole to the end
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(src, begin, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		for at = begin; at < end; {
			n, err := unix.Pread(src, buf[:min(int64(len(buf)), end-at)], at)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return err
			}
			if n == 0 {
				return nil // it became shorter
			}
			if err := writeAll(dst, buf[:n], at); err != nil {
				return err
			}
			at += int64(n)
		}
	}
	return nil
}

func writeAll(fd int, b []byte, at int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, at)
		if err != nil && err != unix.EINTR {
			return err
		}
		b, at = b[max(n, 0):], at+int64(max(n, 0))
	}
	return nil
}

// Write makes a file with this content at a name that must be free, with mode 0600, durable but for its name.
func Write(dir int, name string, text []byte) (err error) {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fail("create", name, err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := writeAll(fd, text, 0); err != nil {
		return fail("write", name, err)
	}
	return fail("sync", name, unix.Fsync(fd))
}

// Split parts a relative path into its directory ("" at the top) and its name.
func Split(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}
