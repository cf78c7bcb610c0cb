package report

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"veneer/boot"
	"veneer/overlay"
	"veneer/overlay/changes"
	"veneer/overlay/mount"
	"veneer/stage"
)

// keptUpper and volatileUpper are the upper's directory in the place of an overlay that is kept, and on the root's tmpfs.
const (
	keptUpper     = overlay.KeptUpper
	volatileUpper = "upper"
)

// Machine returns what supplies which part of the system whose root is at root, as the record and the mount table have it.
func (r *Report) Machine(root string) (*changes.Machine, error) {
	table, err := mountTable(filepath.Join(root, "proc/self/mountinfo"))
	if err != nil {
		return nil, err
	}
	b := &builder{Record: r.Record, root: root, table: table, ours: map[string]bool{"/": true}}
	for _, i := range r.Images {
		b.dirs = append(b.dirs, filepath.Join(root, i.Mount))
	}
	b.addRoot()
	for _, rule := range r.Rules {
		if err := b.addRule(rule); err != nil {
			return nil, fmt.Errorf("rule for %s: %w", rule.Path, err)
		}
	}
	b.addForeign()
	return &b.machine, nil
}

// mountTable reads the mounts, none where there is no table.
func mountTable(file string) ([]mount.Entry, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return mount.ReadTable(f)
}

// builder collects the sources of a machine.
type builder struct {
	*stage.Record
	root    string
	table   []mount.Entry
	dirs    []string // of the images, bottom first
	ours    map[string]bool
	machine changes.Machine
}

// image is the layer of image i, seen from its directory dir.
func (b *builder) image(i int, dir string) changes.Layer {
	a := b.Images[i]
	return changes.Layer{Role: string(a.Role), Name: a.Name, ID: a.ID, Dir: dir, Verified: b.Verified.Images && b.Verified.Manifest}
}

func (b *builder) addRoot() {
	s := changes.Source{Mount: "/"}
	for i, dir := range b.dirs {
		s.Lowers = append(s.Lowers, b.image(i, dir))
	}
	dir := volatileUpper
	if b.Upper.Kind == string(boot.UpperPersistent) {
		dir = keptUpper
	}
	if b.Upper.Mount != "" {
		s.Upper = &changes.Layer{Role: changes.RoleUpper, Name: "/", Dir: filepath.Join(b.root, b.Upper.Mount, dir)}
		s.Rule = b.volatile(changes.Rule{}, b.Upper.Kind)
	}
	b.machine.Sources = append(b.machine.Sources, s)
}

// volatile says whether what is written is gone after the next boot, and why, when it should not be.
func (b *builder) volatile(r changes.Rule, upper string) changes.Rule {
	kept := r.Action == "persist" || r.Action == "merge" || r.Action == "" && upper == string(boot.UpperPersistent)
	r.Volatile = upper == string(boot.UpperTmpfs) || r.Action == "ephemeral"
	if b.State.Kind == stage.StateEphemeral && kept {
		r.Volatile, r.Why = true, b.State.Why
	}
	return r
}

// addRule adds what a rule mounts, as far as it is what one sees.
func (b *builder) addRule(rule stage.Rule) error {
	seen := b.mounted(rule.Path)
	switch {
	case b.ours[rule.Path]:
		return nil // the root
	case rule.Action == "mask":
		b.ours[rule.Path] = true
		b.machine.Foreign = append(b.machine.Foreign, changes.Foreign{Path: rule.Path, What: "hidden by a mask rule of the " + rule.Origin})
		return nil
	case rule.Source == "" && rule.Action != "read-only":
		return nil // ephemeral in what is volatile anyway
	case seen == 0 && rule.Action == "read-only":
		return nil
	case seen == 0:
		b.machine.Notes = append(b.machine.Notes, "the rule for "+rule.Path+" is not in force now: nothing is mounted there")
		return nil
	case seen > 1:
		return nil // something covers it: addForeign tells
	}
	b.ours[rule.Path] = true
	s := changes.Source{Mount: rule.Path}
	found, err := overlay.Look(b.dirs, rule.Path)
	if err != nil {
		return err
	}
	for i, dir := range b.dirs {
		for _, at := range found.At {
			if at == path.Join(dir, rule.Path) {
				s.Lowers = append(s.Lowers, b.image(i, at))
			}
		}
	}
	s.Rule = b.volatile(changes.Rule{Action: rule.Action, Origin: rule.Origin}, rule.Upper)
	switch {
	case rule.Action == "read-only":
	case rule.Form == "bind":
		s.Bind = true
		s.Upper = &changes.Layer{Role: changes.RoleData, Name: rule.Path, Dir: filepath.Join(b.root, rule.Source)}
	default:
		s.Upper = &changes.Layer{Role: changes.RoleUpper, Name: rule.Path, Dir: filepath.Join(b.root, rule.Source, keptUpper)}
	}
	b.machine.Sources = append(b.machine.Sources, s)
	return nil
}

// mounted counts the mounts at a path. Where there is no table each rule has its one.
func (b *builder) mounted(p string) (n int) {
	if b.table == nil {
		return 1
	}
	for _, e := range b.table {
		if e.Target == p {
			n++
		}
	}
	return n
}

// addForeign adds the mounts that are none of ours, each but those that lie on another one of them.
func (b *builder) addForeign() {
	covered := func(p string) bool {
		for _, f := range b.machine.Foreign {
			if p == f.Path || strings.HasPrefix(p, f.Path+"/") {
				return true
			}
		}
		return false
	}
	for _, e := range b.table {
		if !b.ours[e.Target] && !covered(e.Target) {
			b.machine.Foreign = append(b.machine.Foreign, changes.Foreign{Path: e.Target, What: "a mount of its own (" + e.Type + ")"})
		}
	}
}

// Against makes each part of the machine be compared with what a snapshot has of it.
func (r *Report) Against(m *changes.Machine, root, name string) error {
	state := filepath.Join(root, r.State.Mount)
	snapshot := filepath.Join(state, "snapshots", name)
	// The description is written last: without it the snapshot is a copy that was not finished.
	if _, err := os.Lstat(filepath.Join(snapshot, "snapshot.json")); r.State.Mount == "" || err != nil {
		return fmt.Errorf("no snapshot %q: %w", name, fs.ErrNotExist)
	}
	var kept []changes.Source
	for _, s := range m.Sources {
		old := r.of(s, state, snapshot)
		if old == "" {
			m.Foreign = append(m.Foreign, changes.Foreign{Path: s.Mount, What: "not in the snapshot"})
			continue
		}
		layer := *s.Upper
		layer.Dir = old
		s.Old = &layer
		kept = append(kept, s)
	}
	m.Sources = kept
	return nil
}

// of is where the snapshot has the upper of a source, "" where it has not. The /etc of a deployment may be that of another one.
func (r *Report) of(s changes.Source, state, snapshot string) string {
	if s.Upper == nil {
		return ""
	}
	rel, err := filepath.Rel(state, s.Upper.Dir)
	if err != nil || strings.HasPrefix(rel, "..") {
		return ""
	}
	candidates := []string{filepath.Join(snapshot, rel)}
	if top, rest, _ := strings.Cut(rel, "/"); top == "etc" {
		_, rest, _ = strings.Cut(rest, "/")
		others, _ := filepath.Glob(filepath.Join(snapshot, "etc", "*", rest))
		candidates = append(candidates, others...)
	}
	for _, c := range candidates {
		if _, err := os.Lstat(c); err == nil {
			return c
		}
	}
	return ""
}
