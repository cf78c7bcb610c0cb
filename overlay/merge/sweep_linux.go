package merge

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
)

// Swept is what a sweep removed.
type Swept struct {
	Removed int
	Paths   []string // the first ones, relative to the upper
}

// maxSwept bounds the paths that are listed.
const maxSwept = 1000

// Sweep removes from an upper what is not to survive: keeps is asked for each path, relative to the upper. A directory stays as
// long as something in it stays; if it is not kept for itself it is then no more than the way there: the base shows in it, and it
// has the owner, mode and attributes that the base's has. Lowers are the same directory in each image, bottom first.
//
// It follows no link, and neither flag of chattr(1) stops it. A sweep that was stopped is finished by the next. The caller syncs the
// file system.
func Sweep(ctx context.Context, upper string, lowers []string, keeps func(path string) bool) (*Swept, error) {
	return sweep(ctx, upper, lowers, keeps, func(string) error { return nil })
}

func sweep(ctx context.Context, upper string, lowers []string, keeps func(string) bool, before func(string) error) (*Swept, error) {
	base, err := openView(lowers)
	if err != nil {
		return nil, err
	}
	defer base.close()
	fd, err := entry.OpenRoot(upper)
	if err != nil {
		return nil, fmt.Errorf("upper: %w", err)
	}
	defer unix.Close(fd)
	s := &sweeper{ctx: ctx, keeps: keeps, before: before}
	if _, err := s.dir(fd, base, "", 0, false); err != nil {
		return nil, fmt.Errorf("sweep %s: %w", upper, err)
	}
	return &s.swept, nil
}

type sweeper struct {
	ctx    context.Context
	keeps  func(string) bool
	before func(string) error
	swept  Swept
}

// dir sweeps a directory, and reports whether something stays in it.
func (s *sweeper) dir(fd int, base *view, path string, depth int, fixed bool) (rest bool, err error) {
	if depth > entry.MaxDepth {
		return false, entry.ErrTooDeep
	}
	names, err := entry.Names(fd)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if err := s.ctx.Err(); err != nil {
			return false, err
		}
		stays, err := s.entry(fd, base, name, join(path, name), depth, &fixed)
		if err != nil {
			return false, fmt.Errorf("%s: %w", entry.Quote(name), err)
		}
		rest = rest || stays
	}
	return rest, nil
}

func (s *sweeper) entry(fd int, base *view, name, path string, depth int, fixed *bool) (stays bool, err error) {
	u, err := look(fd, name)
	if err != nil || u == nil {
		return false, err
	}
	kept := s.keeps(path)
	if u.kind == dir {
		rest, err := s.below(fd, base, u, path, depth)
		if err != nil || kept {
			return true, err
		}
		if rest {
			return true, s.carrier(fd, base, u)
		}
	} else if kept {
		return true, nil
	}
	if err := s.before("remove " + path); err != nil {
		return false, err
	}
	if *fixed { // a directory that must not lose names
		if err := entry.Loosen(fd, ""); err != nil {
			return false, err
		}
		*fixed = false
	}
	s.swept.Removed++
	if len(s.swept.Paths) < maxSwept {
		s.swept.Paths = append(s.swept.Paths, path)
	}
	return false, entry.Remove(fd, name)
}

func (s *sweeper) below(fd int, base *view, u *node, path string, depth int) (rest bool, err error) {
	if u.st.Mounted {
		return false, entry.ErrOtherFileSystem
	}
	n, err := base.child(u.name)
	if err != nil {
		return false, err
	}
	var sub *view
	if kindOf(n) == dir {
		if sub, err = base.enter(u.name); err != nil {
			return false, err
		}
		defer sub.close()
	}
	d, err := entry.OpenDir(fd, u.name)
	if err != nil {
		return false, err
	}
	defer unix.Close(d)
	return s.dir(d, sub, path, depth+1, u.st.Fixed)
}

// carrier makes a directory that leads to what is kept like that of the base.
func (s *sweeper) carrier(fd int, base *view, u *node) error {
	n, err := base.child(u.name)
	if err != nil || kindOf(n) != dir {
		return err
	}
	d, err := differ(u, n)
	if err != nil || d == 0 && !u.marks.Opaque {
		return err
	}
	if err := s.before("make " + u.name + " as it is in the base"); err != nil {
		return err
	}
	if err := entry.SetMeta(fd, u.name, n.st, n.attrs); err != nil {
		return err
	}
	return entry.SetOpaque(fd, u.name, false)
}
