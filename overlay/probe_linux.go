package overlay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrNoRoom means that a file system could hold an upper, but has no block or no inode left for one: something on it has to go.
var ErrNoRoom = errors.New("no room is left")

// probeDir is where ProbeUpper tries; what an earlier one left there goes first.
const probeDir = ".veneer-probe"

// Room below which a file system counts as full: an overlay makes a handful of entries when it is mounted.
const (
	minProbeBytes  = 64 << 10
	minProbeInodes = 16
)

// probes is what an upper needs, in the order of trying, see Documentation/filesystems/overlayfs.rst, "Upper and lower".
var probes = []struct {
	what string
	try  func(dir int) error
}{
	{"tell the type of an entry in a directory (d_type)", probeType},
	{"keep the attribute trusted.overlay.opaque", func(dir int) error { return unix.Fsetxattr(dir, "trusted.overlay.opaque", []byte("y"), 0) }},
	{"hold a whiteout, a device 0:0", func(dir int) error { return unix.Mknodat(dir, "whiteout", unix.S_IFCHR, 0) }},
	{"make a file without a name (O_TMPFILE)", func(dir int) error {
		fd, err := unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}},
	{"exchange two entries (RENAME_EXCHANGE)", func(dir int) error {
		return unix.Renameat2(dir, "file", dir, "whiteout", unix.RENAME_EXCHANGE)
	}},
	{"leave a whiteout behind (RENAME_WHITEOUT)", func(dir int) error {
		return unix.Renameat2(dir, "whiteout", dir, "moved", unix.RENAME_WHITEOUT)
	}},
	{"carry an overlay", probeMount},
}

// probedAttr is what ProbeUpper leaves on a directory that passed: where and by whom it was tried.
const probedAttr = "trusted.veneer.probed"

// Probed reports whether the directory dir passed ProbeUpper already, on this file system and with this kernel: a mark on it says so,
// and a copy of it elsewhere is another file system's. Whether it may be written, and has room (ErrNoRoom), is looked at each time.
func Probed(dir string) (bool, error) {
	at, st, err := openUpper(dir)
	if err != nil {
		return false, err
	}
	defer unix.Close(at)
	mark := probeMark(&st)
	have := make([]byte, len(mark)+1)
	n, err := unix.Fgetxattr(at, probedAttr, have)
	return err == nil && string(have[:n]) == mark, nil
}

// openUpper opens a directory that is to hold uppers, if that can be and there is room.
func openUpper(dir string) (at int, st unix.Statfs_t, err error) {
	at, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return at, st, &fs.PathError{Op: "probe upper", Path: dir, Err: err}
	}
	switch err = unix.Fstatfs(at, &st); {
	case err != nil:
		err = &fs.PathError{Op: "statfs", Path: dir, Err: err}
	case st.Flags&unix.ST_RDONLY != 0:
		err = fmt.Errorf("upper in %s: the %s there is mounted read-only: %w", dir, fileSystemName(int64(st.Type)), unix.EROFS)
	case st.Blocks > 0 && st.Bavail*uint64(st.Bsize) < minProbeBytes || st.Files > 0 && st.Ffree < minProbeInodes:
		err = fmt.Errorf("upper in %s: %w on the %s: %d KiB and %d inodes", dir, ErrNoRoom, fileSystemName(int64(st.Type)), st.Bavail*uint64(st.Bsize)>>10, st.Ffree)
	default:
		return at, st, nil
	}
	unix.Close(at)
	return -1, st, err
}

// ProbeUpper reports whether the directory dir can hold uppers, by trying in a directory of its own below it, which is gone
// afterwards. The error names the file system, what it cannot do and what to use instead; one that is merely full is ErrNoRoom. What
// passes is marked for Probed.
//
// The mount of the last try is seen by nobody outside the caller's mount namespace if that is private.
func ProbeUpper(dir string) error {
	at, st, err := openUpper(dir)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	name := fileSystemName(int64(st.Type))
	if err := removeTree(at, probeDir, maxProbeDepth); err != nil {
		return &fs.PathError{Op: "remove", Path: dir + "/" + probeDir, Err: err}
	}
	what, err := probe(at)
	rerr := removeTree(at, probeDir, maxProbeDepth)
	switch {
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("upper in %s: %w on the %s: %w", dir, ErrNoRoom, name, err)
	case err != nil:
		err = fmt.Errorf("upper on %s cannot %s: %w; use ext4, xfs (ftype=1) or btrfs, or veneer.upper=tmpfs", name, what, err)
	case rerr == nil:
		_ = unix.Fsetxattr(at, probedAttr, []byte(probeMark(&st)), 0) // without it the next boot tries again
	}
	return errors.Join(err, rerr)
}

// probeMark names this kernel and a file system.
func probeMark(st *unix.Statfs_t) string {
	var uts unix.Utsname
	_ = unix.Uname(&uts) // it has no way to fail
	return fmt.Sprintf("1 %s %x %x", unix.ByteSliceToString(uts.Release[:]), st.Type, st.Fsid.Val)
}

// probe makes the scratch directory and tries; what is what could not be done.
func probe(at int) (what string, err error) {
	if err := unix.Mkdirat(at, probeDir, 0o700); err != nil {
		return "hold a directory", err
	}
	dir, err := unix.Openat(at, probeDir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "open a directory", err
	}
	defer unix.Close(dir)
	for _, p := range probes {
		if err := p.try(dir); err != nil {
			return p.what, err
		}
	}
	return "", nil
}

func probeType(dir int) error {
	fd, err := unix.Openat(dir, "file", unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	unix.Close(fd)
	// A handle of its own: the position in a directory belongs to the handle.
	list, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(list)
	buf := make([]byte, 4096)
	n, err := unix.Getdents(list, buf)
	if err != nil {
		return err
	}
	// struct linux_dirent64: inode 8, offset 8, length 2, type 1, name.
	for b := buf[:n]; len(b) > 19; {
		length := int(binary.NativeEndian.Uint16(b[16:]))
		if unix.ByteSliceToString(b[19:length]) == "file" && b[18] == unix.DT_REG {
			return nil
		}
		b = b[length:]
	}
	return errors.New("it says nothing of a file")
}

func probeMount(dir int) error {
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := unix.Mkdirat(dir, name, 0o700); err != nil {
			return err
		}
	}
	// Through /proc the path needs no escape, whatever is in it.
	at := procPath(dir)
	data := "lowerdir=" + at + "/lower,upperdir=" + at + "/upper,workdir=" + at + "/work,index=off,nfs_export=off,redirect_dir=off,metacopy=off"
	if err := unix.Mount("overlay", at+"/merged", "overlay", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, data); err != nil {
		return err
	}
	return unix.Unmount(at+"/merged", unix.UMOUNT_NOFOLLOW)
}

func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// maxProbeDepth is that of what an overlay makes below its work directory, and one more.
const maxProbeDepth = 5

// removeTree removes an entry of dir and what is below it, and follows no link. What is not there is no error.
func removeTree(dir int, name string, depth int) error {
	err := unix.Unlinkat(dir, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) || depth == 0 {
		return err
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, 4096)
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil {
			return err
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil) // without . and ..
		if len(names) == 0 {
			break
		}
		for _, name := range names {
			if err := removeTree(fd, name, depth-1); err != nil {
				return err
			}
		}
		if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
			return err
		}
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

// fileSystemName is the name of a file system by its number, see statfs(2).
func fileSystemName(magic int64) string {
	switch magic {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay"
	case unix.MSDOS_SUPER_MAGIC:
		return "vfat"
	case unix.EXFAT_SUPER_MAGIC:
		return "exfat"
	case 0x7366746e:
		return "ntfs3"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	case unix.SQUASHFS_MAGIC:
		return "squashfs"
	}
	return fmt.Sprintf("file system %#x", magic)
}
