package merge

import (
	"path"

	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
)

// SideOf tells which file of an upper the path, of the same upper, was laid beside as the other side of a conflict, and false where it
// was not, or where that cannot be seen.
func SideOf(upper, name string) (file string, ok bool) {
	parent, base := path.Split(name)
	if !looksLikeSide(base) {
		return "", false
	}
	root, err := entry.OpenRoot(upper)
	if err != nil {
		return "", false
	}
	defer unix.Close(root)
	fd := root
	if parent != "" {
		if fd, err = entry.OpenBeneath(root, path.Clean(parent)); err != nil {
			return "", false
		}
		defer unix.Close(fd)
	}
	n, err := look(fd, base)
	if err != nil {
		return "", false
	}
	_, of, ok := sideMark(n)
	return path.Join(parent, of), ok
}
