package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// FileType is what the images have at a path.
type FileType string

// The types that a rule tells apart.
const (
	Nothing   FileType = "nothing"
	Directory FileType = "directory"
	File      FileType = "file" // of any kind that is neither a directory nor a link
	Link      FileType = "symbolic link"
)

// Found is what a stack of images has at a path.
type Found struct {
	Type FileType
	At   []string // where: the directories that are merged there, bottom first, or the one file that is seen
}

// Look finds what the stack of lowers (bottom first) has at an absolute path, by the rules of overlayfs: the highest lower that
// has it decides what it is, directories of several lowers are merged until a whiteout, an opaque directory or something else ends
// the stack. No link is followed.
func Look(lowers []string, name string) (Found, error) {
	found := Found{Type: Nothing}
	parts := strings.Split(strings.Trim(name, "/"), "/")
	for i := len(lowers) - 1; i >= 0; i-- {
		t, last, err := look(lowers[i], parts)
		if err != nil {
			return found, err
		}
		if t == Directory || t != Nothing && len(found.At) == 0 {
			found.Type = t
			found.At = append([]string{path.Join(lowers[i], name)}, found.At...)
		}
		if last || t != Nothing && t != Directory {
			break
		}
	}
	return found, nil
}

// look finds what one lower has, and whether it hides what lies below it.
func look(lower string, parts []string) (t FileType, last bool, err error) {
	p := lower
	for i, part := range parts {
		p = path.Join(p, part)
		var st unix.Stat_t
		err := unix.Lstat(p, &st)
		if errors.Is(err, unix.ENOENT) {
			return Nothing, last, nil
		}
		if err != nil {
			return Nothing, false, &fs.PathError{Op: "stat", Path: p, Err: err}
		}
		format := st.Mode & unix.S_IFMT
		switch {
		case format == unix.S_IFCHR && st.Rdev == 0:
			return Nothing, true, nil
		case format == unix.S_IFDIR:
			opaque, err := isOpaque(p)
			if err != nil {
				return Nothing, false, err
			}
			last = last || opaque
		case i < len(parts)-1:
			if format == unix.S_IFLNK {
				return Nothing, false, fmt.Errorf("%s is a symbolic link; name what it leads to", strings.Join(parts[:i+1], "/"))
			}
			return Nothing, true, nil
		case format == unix.S_IFLNK:
			return Link, true, nil
		default:
			return File, true, nil
		}
	}
	return Directory, last, nil
}

// isOpaque reports whether a directory hides those below it (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque
// directories").
func isOpaque(dir string) (bool, error) {
	var value [1]byte
	n, err := unix.Lgetxattr(dir, "trusted.overlay.opaque", value[:])
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.EOPNOTSUPP):
		return false, nil
	case errors.Is(err, unix.ERANGE): // longer than y: not ours
		return false, nil
	case err != nil:
		return false, &fs.PathError{Op: "getxattr", Path: dir, Err: err}
	}
	return n == 1 && value[0] == 'y', nil
}
