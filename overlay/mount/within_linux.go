package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrLink is the error of an operation whose target lies behind a symbolic link, in a tree where none is followed: what stands
// there was made by somebody who may write, and could lead anywhere.
var ErrLink = errors.New("is a symbolic link, or lies behind one")

// at calls fn with a name for target. Where the target lies in a tree that others may have shaped, the name is that of a
// descriptor, reached without following any link.
func at(root, target string, fn func(name string) error) error {
	if root == "" {
		return fn(target)
	}
	fd, err := openWithin(root, target)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return fn("/proc/self/fd/" + strconv.Itoa(fd))
}

// openWithin opens target, which is root or lies below it, as a mere place (O_PATH).
func openWithin(root, target string) (int, error) {
	name, err := relative(root, target)
	if err != nil {
		return -1, err
	}
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS})
	if errors.Is(err, unix.ELOOP) {
		err = ErrLink
	}
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: target, Err: err}
	}
	return fd, nil
}

func relative(root, target string) (string, error) {
	if target == root {
		return ".", nil
	}
	name, ok := strings.CutPrefix(target, strings.TrimSuffix(root, "/")+"/")
	if !ok || path.Clean(target) != target {
		return "", fmt.Errorf("%s does not lie below %s", target, root)
	}
	return name, nil
}

// apply makes each directory on the way that is missing, as a descriptor on the one before it.
func (p Place) apply() error {
	root := p.Root
	if root == "" {
		root = "/"
	}
	name, err := relative(root, p.Path)
	if err != nil {
		return err
	}
	fail := func(err error) error { return &fs.PathError{Op: "make mount point", Path: p.Path, Err: err} }
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	defer func() { unix.Close(dir) }()
	parts := strings.Split(name, "/")
	for i, part := range parts {
		var st unix.Stat_t
		err := unix.Fstatat(dir, part, &st, unix.AT_SYMLINK_NOFOLLOW)
		last := i == len(parts)-1
		switch {
		case errors.Is(err, unix.ENOENT) && last && p.File:
			f, err := unix.Openat(dir, part, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
			if err != nil {
				return fail(err)
			}
			return unix.Close(f)
		case errors.Is(err, unix.ENOENT):
			if err := unix.Mkdirat(dir, part, 0o755); err != nil {
				return fail(err)
			}
		case err != nil:
			return fail(err)
		case st.Mode&unix.S_IFMT == unix.S_IFLNK:
			return fail(fmt.Errorf("%s %w", strings.Join(parts[:i+1], "/"), ErrLink))
		case last && p.File && st.Mode&unix.S_IFMT == unix.S_IFDIR:
			return fail(errors.New("a directory is there, and a file is to be mounted"))
		case last && p.File:
			return nil
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			return fail(fmt.Errorf("%s is not a directory", strings.Join(parts[:i+1], "/")))
		}
		next, err := unix.Openat(dir, part, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return fail(err)
		}
		unix.Close(dir)
		dir = next
	}
	return nil
}

func (o Own) apply() error {
	root := o.Root
	if root == "" {
		root = "/"
	}
	return at(root, o.Path, func(name string) error {
		if o.UID >= 0 {
			if err := os.Chown(name, o.UID, o.GID); err != nil {
				return err
			}
		}
		if o.Mode >= 0 { // after the owner: chown(2) takes the suid bit away
			return unix.Chmod(name, uint32(o.Mode))
		}
		return nil
	})
}

func (l Like) apply() error {
	var st unix.Stat_t
	if err := unix.Stat(l.Of, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: l.Of, Err: err}
	}
	return Own{Path: l.Path, UID: int(st.Uid), GID: int(st.Gid), Mode: int(st.Mode & 0o7777)}.apply()
}

// keptFlags are the flags of a mount that a remount would otherwise take away.
func keptFlags(target string) (flags uintptr) {
	var st unix.Statfs_t
	if unix.Statfs(target, &st) != nil {
		return 0
	}
	for _, f := range []struct {
		st    int64
		mount uintptr
	}{{unix.ST_NOSUID, unix.MS_NOSUID}, {unix.ST_NODEV, unix.MS_NODEV}, {unix.ST_NOEXEC, unix.MS_NOEXEC}, {unix.ST_NOATIME, unix.MS_NOATIME}} {
		if st.Flags&f.st != 0 {
			flags |= f.mount
		}
	}
	return flags
}
