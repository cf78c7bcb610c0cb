package merge

// Before: the upper holds what was written on the old base; nothing has it mounted.
// After: it holds what is local, laid over the new base; everything is durable, and the plan lies in the scratch directory until
// the caller has written his stamp and calls Forget.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
)

// Names in the scratch directory.
const (
	planName = "merge.plan"
	planTemp = "merge.plan.tmp"
	making   = "merge.tmp" // files in the making, by the number of their action
)

// Run merges, and returns what became of each path. In this order:
//
//   - a plan that was left by a run for the same two bases is taken up again; or else one is made, and written durably
//   - all that is to be written is written to the scratch directory, and the file system synced, once for all of it
//   - each action is done, one small step after the other: a rename, a removal, a mark
//   - the file system of the upper is synced
//
// After a stop at any instant the next Run goes on, and returns the same report.
func Run(ctx context.Context, s Spec) (*Report, error) {
	return run(ctx, s, func(string) error { return nil })
}

// run is Run with a hook before each change to the disk, which tests stop at.
func run(ctx context.Context, s Spec, before func(string) error) (*Report, error) {
	base, err := openView(s.Lowers)
	if err != nil {
		return nil, err
	}
	defer base.close()
	upper, err := entry.OpenRoot(s.Upper)
	if err != nil {
		return nil, fmt.Errorf("upper: %w", err)
	}
	defer unix.Close(upper)
	scratch, err := entry.OpenRoot(s.Scratch)
	if err != nil {
		return nil, fmt.Errorf("scratch: %w", err)
	}
	defer unix.Close(scratch)
	p, err := leftPlan(scratch, &s)
	if err != nil {
		return nil, err
	}
	m := &maker{spec: &s, base: base, upper: upper, scratch: scratch, before: before}
	if p == nil {
		if p, err = makePlan(ctx, &s, upper, base, s.oldSide()); err != nil {
			return nil, err
		}
		if len(p.Actions) > 0 {
			if err := m.keep(p); err != nil {
				return nil, fmt.Errorf("write the plan of the merge of %s: %w", s.Path, err)
			}
		}
	}
	if err := m.all(ctx, p.Actions); err != nil {
		return nil, fmt.Errorf("merge %s: %w", s.Path, err)
	}
	return &p.Report, nil
}

// leftPlan reads the plan of a run that was stopped. What cannot be read was never begun, and is made again.
func leftPlan(scratch int, s *Spec) (*Plan, error) {
	n, err := look(scratch, planName)
	if err != nil || n == nil {
		return nil, err
	}
	if n.kind != file || n.Size > maxPlan {
		return nil, nil
	}
	text, err := n.read(maxPlan)
	if err != nil {
		return nil, err
	}
	p, err := ReadPlan(text)
	if err != nil || p.Report.From != s.From || p.Report.To != s.To {
		return nil, nil
	}
	return p, nil
}

// maker carries out a plan.
type maker struct {
	spec           *Spec
	base           *view
	upper, scratch int
	making         int // directory
	before         func(what string) error
}

// step is one change to the disk.
func (m *maker) step(what string, change func() error) error {
	if err := m.before(what); err != nil {
		return err
	}
	return change()
}

// keep writes the plan.
func (m *maker) keep(p *Plan) error {
	err := m.step("make room for the plan", func() error {
		return errors.Join(entry.Remove(m.scratch, planTemp), entry.Remove(m.scratch, planName))
	})
	if err != nil {
		return err
	}
	if err := m.step("write the plan", func() error { return entry.Write(m.scratch, planTemp, p.Encode()) }); err != nil {
		return err
	}
	return m.step("name the plan", func() error {
		if err := rename(m.scratch, planTemp, m.scratch, planName); err != nil {
			return err
		}
		return entry.Sync(m.scratch, "")
	})
}

// all carries out the actions.
func (m *maker) all(ctx context.Context, actions []Action) error {
	if len(actions) == 0 {
		return nil
	}
	if err := m.clear(); err != nil {
		return err
	}
	if err := m.step("make a directory", func() error { return unix.Mkdirat(m.scratch, making, 0o700) }); err != nil {
		return err
	}
	var err error
	if m.making, err = entry.OpenDir(m.scratch, making); err != nil {
		return err
	}
	defer unix.Close(m.making)
	for _, pass := range []func(place, string, Action) error{m.prepare, m.do} {
		for i, a := range actions {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := m.at(a, strconv.Itoa(i), pass); err != nil {
				return fmt.Errorf("%s %s: %w", a.Op, entry.Quote(a.Path), err)
			}
		}
		// What was written before it gets its name; then, all of it.
		if err := m.step("sync", func() error { return unix.Syncfs(m.scratch) }); err != nil {
			return fmt.Errorf("sync: %w", err)
		}
	}
	return m.clear()
}

func (m *maker) clear() error {
	if !entry.Exists(m.scratch, making) {
		return nil
	}
	return m.step("clear the scratch directory", func() error { return entry.Remove(m.scratch, making) })
}

// at opens the directory that an action is about.
func (m *maker) at(a Action, made string, pass func(place, string, Action) error) error {
	d, _ := entry.Split(a.Path)
	fd, err := entry.OpenBeneath(m.upper, d)
	if err != nil {
		return missing(err) // removed with all that was in it
	}
	defer unix.Close(fd)
	return pass(place{fd: fd, path: d}, made, a)
}

// do carries out one action. It is left out where the upper is not as it was planned on, which after a stop means that it was
// done.
func (m *maker) do(at place, made string, a Action) error {
	_, name := entry.Split(a.Path)
	switch a.Op {
	case hide:
		if entry.Exists(at.fd, name) {
			return nil
		}
		return m.step("hide "+a.Path, func() error { return entry.MakeWhiteout(at.fd, name) })
	case besides:
		return m.lay(at, name, made, a)
	case unbeside:
		return m.unlay(at, made, a)
	}
	if name == "." {
		name = ""
	}
	u, err := look(at.fd, name)
	if err != nil || u == nil || !a.fits(u) {
		return err
	}
	switch {
	case a.Op == remove:
		return m.step("remove "+a.Path, func() error { return m.remove(at.fd, name, u) })
	case a.Op == reveal:
		return m.step("reveal "+a.Path, func() error { return entry.SetOpaque(at.fd, name, false) })
	case a.Op == take && u.kind == dir:
		return m.meta(at.fd, u, a)
	case entry.Exists(m.making, made):
		return m.step("replace "+a.Path, func() error { return rename(m.making, made, at.fd, name) })
	}
	return nil
}

func rename(from int, name string, to int, as string) error {
	if err := unix.Renameat(from, name, to, as); err != nil {
		return &fs.PathError{Op: "rename", Path: as, Err: err}
	}
	return nil
}

// fits claims that an entry of the upper is what the action was planned on. A directory is told by its type: its size and time change
// with what is in it.
func (a *Action) fits(u *node) bool {
	if (u.Mode^a.Mode)&unix.S_IFMT != 0 {
		return false
	}
	return u.kind == dir || u.kind == whiteout || u.Size == a.Size && u.st.Sec == a.Sec && int64(u.st.Nsec) == a.Nsec
}

func (m *maker) remove(fd int, name string, u *node) error {
	flags := 0
	if u.kind == dir {
		flags = unix.AT_REMOVEDIR
	}
	err := unix.Unlinkat(fd, name, flags)
	if err == unix.ENOENT || err == unix.ENOTEMPTY { // something came into it since
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

// meta gives a directory of the upper what it takes of the base's metadata, in place.
func (m *maker) meta(fd int, u *node, a Action) error {
	n, err := m.find(a.Path)
	if err != nil {
		return err
	}
	defer n.close()
	if kindOf(n.node) != dir {
		return nil
	}
	st, attrs := mixed(u, n.node, a.Take)
	return m.step("set owner, mode and attributes of "+a.Path, func() error { return entry.SetMeta(fd, u.name, st, attrs) })
}

// mixed is the metadata of the upper's entry, with some of the base's.
func mixed(u, n *node, from bits) (entry.Stat, []entry.Xattr) {
	st, attrs := u.st, u.attrs
	if from&mode != 0 {
		st.Mode = n.st.Mode
	}
	if from&owner != 0 {
		st.UID, st.GID = n.st.UID, n.st.GID
	}
	if from&xattrs != 0 {
		attrs = n.attrs
	}
	return st, attrs
}

// found is an entry of the base, with the directory that it was found in.
type found struct {
	*node
	in *view
}

func (f found) close() { f.in.close() }

// find looks a path up in the base.
func (m *maker) find(path string) (found, error) {
	if path == "." {
		n, err := m.base.self()
		return found{n, nil}, err
	}
	d, name := entry.Split(path)
	v, err := m.base.at(d)
	if err != nil || v == nil {
		return found{}, err
	}
	n, err := v.child(name)
	return found{n, v}, err
}
