package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"veneer/boot"
	"veneer/overlay"
	"veneer/overlay/changes"
	"veneer/overlay/mount"
	"veneer/overlay/rule"
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
	b := &builder{Record: r.Record, root: root, table: table, ours: map[string]bool{"/": true}, said: r.said(root)}
	for _, i := range r.Images {
		b.dirs = append(b.dirs, filepath.Join(root, i.Mount))
	}
	b.addRoot()
	for _, one := range r.Rules {
		if err := b.addRule(one); err != nil {
			return nil, fmt.Errorf("rule for %s: %w", one.Path, err)
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
	said    map[string]*rule.Rule
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
		s.Rule = b.volatile(changes.Rule{Said: b.said["/"]}, b.Upper.Kind)
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
func (b *builder) addRule(one stage.Rule) error {
	seen := b.mounted(one.Path)
	switch {
	case b.ours[one.Path]:
		return nil // the root
	case one.Action == "mask":
		b.ours[one.Path] = true
		b.machine.Foreign = append(b.machine.Foreign, changes.Foreign{Path: one.Path, What: "hidden by a mask rule of the " + one.Origin})
		return nil
	case one.Source == "" && one.Action != "read-only":
		return nil // ephemeral in what is volatile anyway
	case seen == 0 && one.Action == "read-only":
		return nil
	case seen == 0:
		b.machine.Notes = append(b.machine.Notes, "the rule for "+one.Path+" is not in force now: nothing is mounted there")
		return nil
	case seen > 1:
		return nil // something covers it: addForeign tells
	}
	b.ours[one.Path] = true
	s := changes.Source{Mount: one.Path}
	found, err := overlay.Look(b.dirs, one.Path)
	if err != nil {
		return err
	}
	for i, dir := range b.dirs {
		for _, at := range found.At {
			if at == path.Join(dir, one.Path) {
				s.Lowers = append(s.Lowers, b.image(i, at))
			}
		}
	}
	s.Rule = b.volatile(changes.Rule{Action: one.Action, Origin: one.Origin, Said: b.said[one.Path]}, one.Upper)
	switch {
	case one.Action == "read-only":
	case one.Form == "bind":
		s.Bind = true
		s.Upper = &changes.Layer{Role: changes.RoleData, Name: one.Path, Dir: filepath.Join(b.root, one.Source)}
	default:
		s.Upper = &changes.Layer{Role: changes.RoleUpper, Name: one.Path, Dir: filepath.Join(b.root, one.Source, keptUpper)}
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

// snapshot is what its description says of a generation: see overlay/state.
type snapshot struct {
	dir    string
	Covers []string `json:"covers"` // the kinds that it speaks for: of these, what it does not have was not there
}

// maxSnapshot bounds the size of the description, in bytes.
const maxSnapshot = 1 << 20

// Against makes each part of the machine be compared with what a snapshot has of it. Without one of that name the error is
// fs.ErrNotExist.
func (r *Report) Against(m *changes.Machine, root, name string) error {
	state := filepath.Join(root, r.State.Mount)
	snap := snapshot{dir: filepath.Join(state, "snapshots", name)}
	if r.State.Mount == "" || !filepath.IsLocal(name) {
		return fmt.Errorf("no snapshot %q: %w", name, fs.ErrNotExist)
	}
	// The description is written last: without it the snapshot is a copy that was not finished.
	text, err := readBounded(filepath.Join(snap.dir, "snapshot.json"), maxSnapshot)
	if err != nil {
		return fmt.Errorf("snapshot %q: %w", name, err)
	}
	if err := json.Unmarshal(text, &snap); err != nil {
		return fmt.Errorf("snapshot %q: %w", name, err)
	}
	var kept []changes.Source
	for _, s := range m.Sources {
		if !snap.stands(&s, state) {
			m.Foreign = append(m.Foreign, changes.Foreign{Path: s.Mount, What: "not in the snapshot"})
			continue
		}
		kept = append(kept, s)
	}
	m.Sources = kept
	return nil
}

// stands makes a source be compared with the snapshot, and reports whether the snapshot speaks for it at all. The /etc of a
// deployment may be that of another one.
func (snap snapshot) stands(s *changes.Source, state string) bool {
	if s.Upper == nil {
		return false
	}
	rel, err := filepath.Rel(state, s.Upper.Dir)
	if err != nil || !filepath.IsLocal(rel) {
		return false
	}
	kind, rest, _ := strings.Cut(rel, "/")
	candidates := []string{filepath.Join(snap.dir, rel)}
	if kind == "etc" {
		_, rest, _ = strings.Cut(rest, "/")
		others, _ := filepath.Glob(filepath.Join(snap.dir, "etc", "*", rest))
		candidates = append(candidates, others...)
	}
	for _, c := range candidates {
		if _, err := os.Lstat(c); err == nil {
			layer := *s.Upper
			layer.Dir = c
			s.Old = &layer
			return true
		}
	}
	if s.Bind {
		s.Lowers = nil // nothing was there, not even its seed
	}
	return slices.Contains(snap.Covers, kind)
}
