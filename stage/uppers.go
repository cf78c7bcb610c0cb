package stage

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"veneer/boot"
	"veneer/images"
	"veneer/overlay"
	"veneer/overlay/mount"
	"veneer/overlay/rule"
)

// bootBase is what the steps that make a root writable know of the rest of the boot.
type bootBase struct {
	env      Env
	store    Device
	storeDir string // the directory of the store, where it is mounted
	lowers   []string
	tools    string // where the tools layer is mounted; "" without one
	program  string // that works in a state where there is none
	base     Base
}

func newBase(env Env, set *Set, lowers []string) bootBase {
	man := set.Manifest
	b := bootBase{env: env, store: set.Device, storeDir: set.Dir, lowers: lowers, program: set.Keeper, base: Base{Name: man.Name, Version: man.Version, Serial: set.Serial}}
	for i, img := range man.Images {
		b.base.Images = append(b.base.Images, img.ID)
		switch img.Role {
		case images.RoleBase:
			b.base.Base = img.ID
		case images.RoleTools:
			b.tools = lowers[i]
		}
	}
	return b
}

// index is the file that says what the base has in a directory.
func (b bootBase) index(name string) string {
	if b.tools == "" {
		return ""
	}
	return path.Join(b.tools, indexDir, name)
}

// keeper is the program of the tools layer that does the rarer work in a state.
func (b bootBase) keeper() string {
	if b.tools == "" {
		return b.program
	}
	return path.Join(b.tools, "usr/bin/veneer")
}

// rootRule is the rule that a persistent root has: there is none for "/" in a manifest.
func (p policy) rootRule() rule.Rule {
	change := p.rootChange
	if change == "" {
		change = rule.MergeChange
	}
	return rule.Rule{Path: "/", Action: rule.Merge, BaseChange: change}
}

// prepareUppers finds the rules that are in force and makes each upper that is kept fit for this base.
func (k *kept) prepareUppers(ctx context.Context, r *Runner, m Machine, b bootBase, p policy) error {
	var refused string
	var err error
	if k.rules, refused, err = k.dir.Rules(ctx, p.rules, p.RulePaths); err != nil {
		return err
	}
	if refused != "" {
		r.Degrade("rules of the site do not hold", refused)
	}
	if k.places, err = placesOf(m, b.lowers, k.rules, b.base.Serial, k.at); err != nil {
		return err
	}
	if p.upper.Kind == boot.UpperPersistent {
		found := overlay.Found{Type: overlay.Directory, At: b.lowers}
		if err := k.upper(ctx, r, UpperSpec{Path: "/", Dir: rootUpper, Found: found, Rule: p.rootRule(), Base: b.base, Index: b.index("-")}); err != nil {
			return err
		}
	}
	for _, place := range k.places {
		if !place.Overlaid() {
			continue
		}
		spec := UpperSpec{Path: place.Path, Dir: stateName(place, b.base.Serial), Found: place.Base, Rule: place.Rule, Base: b.base, Index: b.index(place.Name)}
		if err := k.upper(ctx, r, spec); err != nil {
			return err
		}
	}
	return nil
}

func (k *kept) upper(ctx context.Context, r *Runner, spec UpperSpec) error {
	done, err := k.dir.Upper(ctx, spec)
	if err != nil {
		return fmt.Errorf("upper of %s: %w", spec.Path, err)
	}
	if done.Merge != nil {
		r.Record.Merges = append(r.Record.Merges, *done.Merge)
	}
	if done.What != "" {
		r.Degrade(done.What, done.Why)
	}
	return nil
}

// Where the state keeps uppers and data.
const (
	rootUpper = "upper"
	EtcDir    = "etc" // one upper for each deployment
	mergeDir  = "merge"
	dataDir   = "data"
)

// stateName is where in the state a rule keeps its things.
func stateName(p Place, serial string) string {
	switch {
	case p.Path == "/etc" && p.Action == rule.Merge:
		return path.Join(EtcDir, serial) // one for each deployment, so that a rollback brings its /etc back
	case p.Action == rule.Merge:
		return path.Join(mergeDir, p.Name)
	}
	return path.Join(dataDir, p.Name)
}

// placesOf looks at what the images have where the rules are for.
func placesOf(m Machine, lowers []string, rules []rule.Effective, serial, at string) ([]Place, error) {
	var errs []error
	places := make([]Place, 0, len(rules))
	for _, e := range rules {
		found, err := m.Look(lowers, e.Path)
		if err != nil {
			errs = append(errs, fmt.Errorf("rule for %s: %w", e.Path, err))
			continue
		}
		p := Place{Effective: e, Base: found, Name: m.StateName(e.Path)}
		p.Kept = path.Join(at, stateName(p, serial))
		places = append(places, p)
	}
	return places, errors.Join(errs...)
}

// applyRules begins what is kept with what the merged root has, and mounts the rules over it.
func applyRules(ctx context.Context, r *Runner, m Machine, k kept, upper boot.UpperKind) error {
	for _, p := range k.places {
		if p.Action != rule.Persist || p.Overlaid() {
			continue
		}
		spec := DataSpec{Name: path.Join(dataDir, p.Name), From: path.Join(RootDir, p.Path), Type: p.Base.Type, Rule: p.Rule}
		for _, below := range k.places {
			if below.Path != p.Path && rule.Within(below.Path, p.Path) {
				spec.Skip = append(spec.Skip, strings.TrimPrefix(below.Path, p.Path+"/"))
			}
		}
		if err := k.dir.Data(ctx, spec); err != nil {
			return fmt.Errorf("data of %s: %w", p.Path, err)
		}
	}
	ops, err := overlay.PlanRules(overlay.Tree{Root: RootDir, Upper: upper, Volatile: UpperDir, Masks: maskDir, LinkDir: linkDir, Places: k.places})
	if err != nil {
		return err
	}
	for _, p := range k.places {
		r.Record.Rules = append(r.Record.Rules, recorded(p, ops))
	}
	return r.Apply(m, ops...)
}

// recorded is a rule as the running system finds it in the record.
func recorded(p Place, ops []mount.Op) Rule {
	rec := Rule{Path: p.Path, Action: string(p.Action), Origin: string(p.Origin)}
	target := path.Join(RootDir, p.Path)
	for _, op := range ops {
		switch op := op.(type) {
		case mount.Bind:
			if op.Target == target {
				rec.Form, rec.Source = string(rule.Bind), op.Source
			}
		case mount.Mount:
			if op.Target == target {
				rec.Form = string(rule.Overlay)
			}
		}
	}
	switch {
	case p.Overlaid():
		rec.Source, rec.Upper = p.Kept, StatePersistent
	case p.Action == rule.Ephemeral && rec.Form != "":
		rec.Source, rec.Upper = path.Join(UpperDir, "ephemeral", p.Name), string(boot.UpperTmpfs)
	}
	return rec
}
