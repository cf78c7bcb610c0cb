package changes

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// roller makes trees and disorder that are the same for the same seed.
type roller struct{ seed uint64 }

func (r *roller) n(below int) int {
	r.seed = r.seed*6364136223846793005 + 1442695040888963407
	return int(r.seed >> 33 % uint64(below))
}

func (r *roller) path() string {
	p := ""
	for range 1 + r.n(4) {
		p += "/" + string(rune('a'+r.n(4)))
	}
	return p
}

// fill makes files and directories as they come; what is in the way of a path stays.
func (r *roller) fill(l *lab, dir string, n int) {
	for range n {
		name := filepath.Join(l.dir, dir, r.path())
		if os.MkdirAll(filepath.Dir(name), 0o755) == nil && r.n(4) > 0 {
			_ = os.WriteFile(name, []byte{byte('0' + r.n(3))}, 0o644)
		}
	}
}

// disturb does what programs do to a tree. Errors are part of the game.
func (r *roller) disturb(l *lab, root string, n int) {
	for range n {
		p, q := root+r.path(), root+r.path()
		switch r.n(10) {
		case 0:
			_ = os.RemoveAll(p)
		case 1:
			_ = os.Remove(p)
		case 2:
			_ = os.Rename(p, q)
		case 3:
			_ = os.MkdirAll(p, 0o755)
		case 4:
			_ = os.Symlink("x", p)
		case 5:
			_ = os.Link(p, q)
		case 6:
			_ = os.Lchown(p, r.n(2), 0)
		case 7:
			_ = os.RemoveAll(p)
			_ = os.MkdirAll(p, 0o755)
		default:
			_ = os.MkdirAll(filepath.Dir(p), 0o755)
			_ = os.WriteFile(p, []byte{byte('0' + r.n(3))}, 0o644)
		}
	}
}

type seen struct{ kind, metadata, content string }

func snapshotOf(t *testing.T, root string) map[string]seen {
	t.Helper()
	all := map[string]seen{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		e, err := statOf(name)
		if err != nil {
			return err
		}
		s := seen{kind: string(kindOf(e.Mode)), metadata: fmt.Sprint(e.Mode, e.Uid, e.Gid)}
		switch d.Type() {
		case 0:
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			s.content = string(b)
		case fs.ModeSymlink:
			s.content, err = os.Readlink(name)
		}
		all["/"+strings.TrimPrefix(strings.TrimPrefix(name, root), "/")] = s
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// differ compares two trees path by path, in the form of a change's letter. Below what was deleted, or is no directory any
// more, nothing is told.
func differ(before, after map[string]seen) []string {
	var all []string
	for p, was := range before {
		is, there := after[p]
		parent, parentThere := after[filepath.Dir(p)]
		switch {
		case !there && parentThere && parent.kind == string(Directory):
			all = append(all, "D "+p)
		case !there:
		case was.kind != is.kind:
			all = append(all, "T "+p)
		case was.content != is.content:
			all = append(all, "M "+p)
		case was.metadata != is.metadata:
			all = append(all, "m "+p)
		}
	}
	for p := range after {
		if _, there := before[p]; !there {
			all = append(all, "A "+p)
		}
	}
	slices.Sort(all)
	return all
}

func statOf(name string) (st unix.Stat_t, err error) {
	err = unix.Lstat(name, &st)
	return st, err
}
