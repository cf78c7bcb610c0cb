package entry

import (
	"errors"
	"io/fs"
	"strconv"

	"golang.org/x/sys/unix"
)

// removeDepth is how many levels Remove enters before it moves what is deeper up to the top of the tree.
const removeDepth = 64

// Remove removes an entry and all that is in it, whatever chattr(1) says of it. A name that is not there is as good as removed. It
// stops where something is mounted, with ErrOtherFileSystem, having removed what came before.
//
// A tree of any depth and width needs at most removeDepth descriptors and one buffer of names a level.
func Remove(dir int, name string) error {
	st, err := At(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	r := removal{dev: st.Dev, top: -1}
	var parent Stat
	if parent, err = At(dir, ""); err != nil {
		return err
	}
	if st.Dir() && parent.Dev != st.Dev {
		return fail("remove", name, ErrOtherFileSystem)
	}
	return r.entry(dir, name, st, 0)
}

type removal struct {
	dev   uint64
	top   int // the directory that everything too deep is moved to
	moved int
}

func (r *removal) entry(dir int, name string, st Stat, depth int) error {
	// Of an overlay only the directories have its device number; its files have that of the layer that they are in.
	if st.Mounted || st.Dir() && st.Dev != r.dev {
		return fail("remove", name, ErrOtherFileSystem)
	}
	if st.Fixed {
		if err := Loosen(dir, name); err != nil {
			return err
		}
	}
	if !st.Dir() {
		return gone("remove", name, unix.Unlinkat(dir, name, 0))
	}
	if depth == removeDepth {
		return r.raise(dir, name)
	}
	fd, err := OpenDir(dir, name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if depth == 0 {
		r.top = fd
	}
	if err := r.empty(fd, depth); err != nil {
		return err
	}
	return gone("remove", name, unix.Unlinkat(dir, name, unix.AT_REMOVEDIR))
}

// empty removes what is in a directory, round after round: a file system may skip names while others are removed, and what was
// raised to the top comes after.
func (r *removal) empty(fd, depth int) error {
	for {
		found := false
		err := eachChunk(fd, func(names []string) (bool, error) {
			for _, name := range names {
				found = true
				st, err := At(fd, name)
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if err == nil {
					err = r.entry(fd, name, st, depth+1)
				}
				if err != nil {
					return false, err
				}
			}
			return true, nil
		})
		if err != nil || !found {
			return err
		}
	}
}

// raise moves a directory that lies too deep to the top of the tree, where a later round finds it.
func (r *removal) raise(dir int, name string) error {
	for {
		r.moved++
		to := ".veneer-deep-" + strconv.Itoa(r.moved)
		err := unix.Renameat2(dir, name, r.top, to, unix.RENAME_NOREPLACE)
		if err != unix.EEXIST {
			return fail("move up", name, err)
		}
	}
}

// Loosen takes the flags away that keep an entry from being removed, or a directory from losing names. Only files and
// directories have them.
func Loosen(dir int, name string) error {
	fd := dir
	if name != "" {
		var err error
		if fd, err = OpenFile(dir, name); err != nil {
			return err
		}
		defer unix.Close(fd)
	}
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err == nil {
		// The attributes of statx(2) have the values of these flags (include/uapi/linux/stat.h).
		err = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags&^(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND))
	}
	return fail("clear flags", name, err)
}

// gone takes a name that is not there for removed.
func gone(op, name string, err error) error {
	if err == unix.ENOENT {
		return nil
	}
	return fail(op, name, err)
}
