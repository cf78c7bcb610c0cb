package merge

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
)

// view is a directory as overlayfs would show it, without a mount: the directories that are merged at this path, the top one
// first. What a higher one has, or has a whiteout for, hides what the others have.
type view struct{ dirs []int }

// openView opens the lowers, bottom first. One that has no such directory adds nothing.
func openView(lowers []string) (*view, error) {
	v := &view{}
	for i := len(lowers) - 1; i >= 0; i-- {
		fd, err := entry.OpenRoot(lowers[i])
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			v.close()
			return nil, fmt.Errorf("lower: %w", err)
		}
		v.dirs = append(v.dirs, fd)
	}
	return v, nil
}

func (v *view) close() {
	if v == nil {
		return
	}
	for _, fd := range v.dirs {
		unix.Close(fd)
	}
	v.dirs = nil
}

// child finds what shows at a name; nil is nothing. A view of nothing, nil, has no children.
func (v *view) child(name string) (*node, error) {
	if v == nil {
		return nil, nil
	}
	for _, fd := range v.dirs {
		n, err := look(fd, name)
		if n == nil && err == nil {
			continue
		}
		if err != nil || n.kind == whiteout {
			return nil, err
		}
		return n, nil
	}
	return nil, nil
}

// enter opens the directory that shows at a name.
func (v *view) enter(name string) (*view, error) {
	sub := &view{}
	for _, fd := range v.dirs {
		n, err := look(fd, name)
		if n == nil && err == nil {
			continue
		}
		if err != nil {
			sub.close()
			return nil, err
		}
		if n.kind != dir {
			break
		}
		if n.marks.Redirect {
			sub.close()
			return nil, fmt.Errorf("%s in a lower: %w", name, ErrMarks)
		}
		d, err := entry.OpenDir(fd, name)
		if err != nil {
			sub.close()
			return nil, err
		}
		sub.dirs = append(sub.dirs, d)
		if n.marks.Opaque {
			break
		}
	}
	return sub, nil
}

// at opens the directory at a path below v; one that does not show there is nil.
func (v *view) at(path string) (*view, error) {
	if path == "" {
		return v.dup()
	}
	now, owned := v, false
	for name := range strings.SplitSeq(path, "/") {
		n, err := now.child(name)
		var next *view
		if err == nil && n != nil && n.kind == dir {
			next, err = now.enter(name)
		}
		if owned {
			now.close()
		}
		if err != nil || next == nil {
			return nil, err
		}
		now, owned = next, true
	}
	return now, nil
}

func (v *view) dup() (*view, error) {
	d := &view{}
	for _, fd := range v.dirs {
		n, err := entry.OpenDir(fd, "")
		if err != nil {
			d.close()
			return nil, err
		}
		d.dirs = append(d.dirs, n)
	}
	return d, nil
}

// self is the directory itself.
func (v *view) self() (*node, error) {
	if v == nil || len(v.dirs) == 0 {
		return nil, nil
	}
	return look(v.dirs[0], "")
}

// names lists what shows, sorted.
func (v *view) names() ([]string, error) {
	if v == nil {
		return nil, nil
	}
	var all []string
	for _, fd := range v.dirs {
		names, err := entry.Names(fd)
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	var shown []string
	for _, name := range union(all, nil) {
		n, err := v.child(name)
		if err != nil {
			return nil, err
		}
		if n != nil {
			shown = append(shown, name)
		}
	}
	return shown, nil
}

// walk calls do for the entry at name, and for all that shows below it; path is relative to it. Where do returns false the walk
// ends.
func (v *view) walk(name, path string, depth int, do func(n *node, path string) (bool, error)) (bool, error) {
	if depth > entry.MaxDepth {
		return false, entry.ErrTooDeep
	}
	n, err := v.child(name)
	if err != nil || n == nil {
		return err == nil, err
	}
	if more, err := do(n, path); err != nil || !more || n.kind != dir {
		return more && err == nil, err
	}
	sub, err := v.enter(name)
	if err != nil {
		return false, err
	}
	defer sub.close()
	return sub.below(path, depth, do)
}

// below is walk for all that is in a directory.
func (v *view) below(path string, depth int, do func(n *node, path string) (bool, error)) (bool, error) {
	names, err := v.names()
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if more, err := v.walk(name, join(path, name), depth+1, do); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

func join(path, name string) string {
	if path == "" || path == "." {
		return name
	}
	return path + "/" + name
}
