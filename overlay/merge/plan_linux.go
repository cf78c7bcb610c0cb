package merge

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
)

// Plan is what a merge will do: the report that stands already, and the actions, in order.
type Plan struct {
	Report  Report
	Actions []Action
}

// Action is one change to the upper. Each can be done again after it was done, and is left out where the entry is no longer what it
// was planned on.
type Action struct {
	Op     op
	Path   string
	Take   bits   // of the new base: content, mode, owner, attributes
	Side   string // name of a side
	Digest string // of what is laid beside

	// What the upper's entry was.
	Mode uint32
	Size int64
	Sec  int64
	Nsec int64
}

// MakePlan decides on every path of the upper, and changes nothing. It takes time in proportion to the upper.
func MakePlan(ctx context.Context, s Spec) (*Plan, error) {
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
	return makePlan(ctx, &s, upper, base, s.oldSide())
}

func makePlan(ctx context.Context, s *Spec, upper int, base *view, old oldSide) (*Plan, error) {
	p := &planner{ctx: ctx, spec: s, old: old}
	p.plan.Report = Report{Format: ReportFormat, From: s.From, To: s.To, TwoWay: p.old == nil, Items: []Item{}}
	root, err := look(upper, "")
	if err != nil {
		return nil, err
	}
	p.dev = root.st.Dev
	err = p.root(root, base)
	if err != nil {
		return nil, fmt.Errorf("plan the merge of %s: %w", s.Path, err)
	}
	return &p.plan, nil
}

type planner struct {
	ctx  context.Context
	spec *Spec
	old  oldSide
	dev  uint64
	plan Plan

	beside string // of the item that is reported next
}

// place is where a walk is.
type place struct {
	fd     int    // the directory of the upper
	base   *view  // the same in the new base, nil where it has none
	path   string // "" at the top
	depth  int
	oldDir bool // the old base had this directory
	hidden bool // the upper's directory hides what the base has in it, because it or one above it is opaque
	fixed  bool // it, or one above it, is immutable
}

// root plans the directory itself, whose opaque mark the kernel does not look at.
func (p *planner) root(u *node, base *view) error {
	o, err := p.lookup(".", true)
	if err != nil {
		return err
	}
	n, err := base.self()
	if err != nil {
		return err
	}
	at := place{fd: u.dir, base: base, oldDir: true, fixed: u.st.Fixed}
	if n == nil {
		at.base = nil
	}
	if _, err := p.dir(at); err != nil {
		return err
	}
	s, err := compare(o, n, u, p.old == nil)
	if err != nil || n == nil {
		return err
	}
	s.rest = true
	d := decide(s)
	p.settle(".", u, d, u.st.Fixed)
	return nil
}

// dir plans all that is in a directory, and reports whether something of it will stay in the upper.
func (p *planner) dir(at place) (rest bool, err error) {
	if at.depth > entry.MaxDepth {
		return false, fmt.Errorf("%s: %w", at.path, entry.ErrTooDeep)
	}
	names, err := entry.Names(at.fd)
	if err != nil {
		return false, err
	}
	beside, err := sides(at.fd, names)
	if err != nil {
		return false, err
	}
	b := &besider{p: p, at: at, names: names, sides: beside}
	isSide, err := b.known()
	if err != nil {
		return false, err
	}
	all := names
	if at.hidden && at.base != nil {
		shown, err := at.base.names()
		if err != nil {
			return false, err
		}
		all = union(shown, names)
	}
	for _, name := range all {
		if err := p.ctx.Err(); err != nil {
			return false, err
		}
		if isSide[name] {
			continue
		}
		stays, err := p.entry(at, name, b)
		if err != nil {
			return false, fmt.Errorf("%s: %w", join(at.path, name), err)
		}
		rest = rest || stays
	}
	return b.finish() || rest, nil
}

func union(a, b []string) []string {
	all := append(a, b...)
	slices.Sort(all)
	return slices.Compact(all)
}

// entry plans one name of a directory, and reports whether the upper will have it.
func (p *planner) entry(at place, name string, b *besider) (stays bool, err error) {
	path := join(at.path, name)
	if len(path) > maxPath || len(p.plan.Actions) > maxActions {
		return false, ErrTooLarge
	}
	u, err := look(at.fd, name)
	if err != nil {
		return false, err
	}
	o, err := p.lookup(path, at.oldDir)
	if err != nil {
		return false, err
	}
	n, err := at.base.child(name)
	if err != nil {
		return false, err
	}
	if u == nil { // hidden, and not there: deleted, if there was something to delete
		if o == nil {
			return false, nil
		}
		u = &node{kind: whiteout, dir: -1}
	} else if err := p.acceptable(u); err != nil {
		return false, err
	} else if u.kind != dir && p.spec.owned(path) {
		p.report(path, KeptLocal, "the machine's identity")
		return true, nil
	}
	if u.kind == dir && u.marks.Opaque && p.old == nil && kindOf(n) == dir {
		p.report(path, KeptLocal, "it hides what the base has in it, and "+noteTwoWay)
		return true, nil
	}
	rest := false
	if u.kind == dir {
		if rest, err = p.below(at, path, u, o, n); err != nil {
			return false, err
		}
	}
	s, err := compare(o, n, u, p.old == nil)
	if err != nil {
		return false, err
	}
	s.rest = rest
	d := decide(s)
	if u.kind == whiteout && d.op == leave && d.verdict == DeletedLocal && kindOf(n) == dir {
		if d.note, err = p.changedBelow(at.base, name, path); err != nil {
			return false, err
		}
	}
	if f, ok := p.spec.form(path); ok && u.kind == file && kindOf(n) == file && d.verdict == Conflict && s.apart&content != 0 {
		if err := p.byEntry(f, path, o, n, u, s, &d); err != nil {
			return false, err
		}
	}
	if u.kind == whiteout && u.dir < 0 && d.op == leave {
		d.op = hide // what the opaque mark did until now
	}
	d, err = b.decide(name, d, n != nil && u.kind != whiteout && u.kind != n.kind)
	if err != nil {
		return false, err
	}
	fixed := at.fixed || u.st.Fixed
	gone := p.settle(path, u, d, fixed) && d.op == remove
	if u.kind == dir && u.marks.Opaque && kindOf(n) == dir && !gone && !fixed {
		p.act(Action{Op: reveal, Path: path}, u)
	}
	return !gone, nil
}

// below plans what is in a directory of the upper.
func (p *planner) below(at place, path string, u, o, n *node) (rest bool, err error) {
	sub := place{path: path, depth: at.depth + 1, oldDir: kindOf(o) == dir, fixed: at.fixed || u.st.Fixed}
	if kindOf(n) == dir {
		sub.hidden = at.hidden || u.marks.Opaque
		if sub.base, err = at.base.enter(u.name); err != nil {
			return false, err
		}
		defer sub.base.close()
	}
	if sub.fd, err = entry.OpenDir(at.fd, u.name); err != nil {
		return false, err
	}
	defer unix.Close(sub.fd)
	return p.dir(sub)
}

// acceptable refuses what a merge must not touch.
func (p *planner) acceptable(u *node) error {
	switch {
	case u.marks.Redirect || u.marks.Metacopy:
		return ErrMarks
	case u.st.Dev != p.dev || u.st.Mounted:
		return entry.ErrOtherFileSystem
	}
	return nil
}

// settle notes a decision. Of what is immutable nothing is changed, and it reports whether something is.
func (p *planner) settle(path string, u *node, d deed, fixed bool) (done bool) {
	if fixed && d.op != leave {
		d = deed{verdict: KeptLocal, note: "immutable: left as it is"}
	}
	if d.verdict != "" {
		p.report(path, d.verdict, d.note)
	}
	if d.op == leave {
		return false
	}
	p.act(Action{Op: d.op, Path: path, Take: d.take}, u)
	return true
}

func (p *planner) report(path string, v Verdict, note string) {
	p.plan.Report.add(Item{Path: path, Verdict: v, Note: note, Side: p.beside})
	p.beside = ""
}

// side notes where the base's side of the item that is reported next lies.
func (p *planner) side(path string) { p.beside = path }

func (p *planner) act(a Action, u *node) {
	if u != nil {
		a.Mode, a.Size, a.Sec, a.Nsec = u.Mode, u.Size, u.st.Sec, int64(u.st.Nsec)
	}
	p.plan.Actions = append(p.plan.Actions, a)
}
