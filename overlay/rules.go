package overlay

import (
	"errors"
	"fmt"
	"path"

	"veneer/boot"
	"veneer/overlay/mount"
	"veneer/overlay/rule"
)

// Place is a rule with what there is at its path.
type Place struct {
	rule.Effective
	Base Found  // what the images have there
	Kept string // where the state keeps it: a directory with fs and work of an upper, or what is bound itself
	Name string // of what is made for it elsewhere, unlike that of any other rule
}

// Tree is a merged root to which rules are to be applied.
type Tree struct {
	Root     string
	Upper    boot.UpperKind
	Volatile string // the tmpfs for what is ephemeral
	Masks    string // directory for what a mask shows instead, and for empty lowers
	LinkDir  string
	Places   []Place // directories before what lies in them
}

// What a mask shows.
const (
	emptyDir  = "dir"
	emptyFile = "file"
)

// PlanRules returns the operations that apply the rules of a tree, in their order, so that the deepest one wins.
//
//	persist, bind      what is kept, at the path
//	persist, overlay   what is kept over what the images have
//	merge              likewise
//	ephemeral          nothing, where what surrounds it is volatile already; else an upper of its own in memory
//	read-only          what the images have, as if there were no upper
//	mask               nothing at all, not even for root
//
// The targets lie in a tree that earlier boots may have shaped: none of them is reached through a link.
func PlanRules(t Tree) ([]mount.Op, error) {
	var ops []mount.Op
	var errs []error
	for i, p := range t.Places {
		planned, err := t.plan(p, t.volatileAround(i))
		if err != nil {
			errs = append(errs, fmt.Errorf("rule for %s: %w", p.Path, err))
			continue
		}
		ops = append(ops, planned...)
	}
	return ops, errors.Join(errs...)
}

// volatileAround reports whether what surrounds the path of rule i is gone at the next boot anyway.
func (t Tree) volatileAround(i int) bool {
	volatile := t.Upper == boot.UpperTmpfs
	for _, around := range t.Places[:i] {
		if rule.Within(t.Places[i].Path, around.Path) {
			volatile = around.Action == rule.Ephemeral
		}
	}
	return volatile
}

func (t Tree) plan(p Place, volatile bool) ([]mount.Op, error) {
	if p.Base.Type == Link {
		return nil, fmt.Errorf("the images have a symbolic link there; name what it leads to")
	}
	target := path.Join(t.Root, p.Path)
	place := mount.Place{Path: target, Root: t.Root, File: p.Base.Type == File}
	bind := func(source string) mount.Op { return mount.Bind{Source: source, Target: target, Root: t.Root} }
	readOnly := mount.Restrict{Target: target, Root: t.Root, Flags: mount.ReadOnly}
	var ops []mount.Op
	switch p.Action {
	case rule.Persist:
		if p.Overlaid() {
			return t.overlaid(p, p.Kept, keptOptions)
		}
		ops = []mount.Op{place, bind(p.Kept)}
	case rule.Merge:
		return t.overlaid(p, p.Kept, keptOptions)
	case rule.Ephemeral:
		if volatile {
			ops = nil
			if p.Owner != "" || p.Mode != "" {
				ops = []mount.Op{place}
			}
			break
		}
		if p.Base.Type == File {
			return nil, errors.New("a single file cannot be ephemeral where its directory is kept; name the directory")
		}
		dir := path.Join(t.Volatile, "ephemeral", p.Name)
		over, err := t.overlaid(p, dir, keptOptions)
		return append(NewUpper(dir, p.Base), over...), err
	case rule.ReadOnly:
		switch {
		case p.Base.Type == Nothing:
			return nil, errors.New("the images have nothing there that could be read")
		case len(p.Base.At) == 1:
			return []mount.Op{place, bind(p.Base.At[0]), readOnly}, nil
		}
		links, m, err := stacked(Layers{Lowers: p.Base.At}, "", path.Join(t.LinkDir, p.Name))
		m.Target, m.Root, m.Flags = target, t.Root, mount.ReadOnly
		return append(append(links, place), m), err
	case rule.Mask:
		if p.Base.Type == Nothing {
			return nil, nil
		}
		source := path.Join(t.Masks, emptyDir)
		made := mount.Op(mount.Mkdir{Path: source, Mode: 0})
		if p.Base.Type == File {
			source = path.Join(t.Masks, emptyFile)
			made = mount.Place{Path: source, File: true}
		}
		return []mount.Op{mount.Mkdir{Path: t.Masks, Mode: 0o755}, made, mount.Own{Path: source, UID: -1, Mode: 0}, place, bind(source), readOnly}, nil
	}
	return append(ops, p.own(target, t.Root)...), nil
}

// NewUpper returns the operations that make the directories of an upper in dir, which looks as the images have what it lies over.
func NewUpper(dir string, base Found) []mount.Op {
	upper := path.Join(dir, KeptUpper)
	ops := []mount.Op{mount.Mkdir{Path: upper, Mode: 0o755}, mount.Mkdir{Path: path.Join(dir, KeptWork), Mode: 0o700}}
	if base.Type == Directory {
		ops = append(ops, mount.Like{Path: upper, Of: base.At[len(base.At)-1]})
	}
	return ops
}

// overlaid stacks an upper with its directories in dir over what the images have.
func (t Tree) overlaid(p Place, dir, options string) ([]mount.Op, error) {
	if p.Base.Type == File {
		return nil, fmt.Errorf("the images have a file there, and %s is for directories", p.Action)
	}
	target := path.Join(t.Root, p.Path)
	var ops []mount.Op
	lowers := p.Base.At
	if len(lowers) == 0 { // overlayfs wants one
		lowers = []string{path.Join(t.Masks, emptyDir+"-lower")}
		ops = append(ops, mount.Mkdir{Path: lowers[0], Mode: 0o755})
	}
	links, m, err := stacked(Layers{lowers, path.Join(dir, KeptUpper), path.Join(dir, KeptWork)}, options, path.Join(t.LinkDir, p.Name))
	m.Target, m.Root = target, t.Root
	ops = append(append(ops, links...), mount.Place{Path: target, Root: t.Root}, m)
	return append(ops, p.own(target, t.Root)...), err
}

// own gives the path the owner and the mode that the rule asks for.
func (p Place) own(target, root string) []mount.Op {
	if p.Owner == "" && p.Mode == "" {
		return nil
	}
	o := mount.Own{Path: target, Root: root, UID: -1, Mode: -1}
	if p.Owner != "" {
		o.UID, o.GID, _ = rule.ParseOwner(p.Owner) // checked with the rule
	}
	if p.Mode != "" {
		mode, _ := rule.ParseMode(p.Mode)
		o.Mode = int(mode)
	}
	return []mount.Op{o}
}
