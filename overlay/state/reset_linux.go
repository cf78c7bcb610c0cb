package state

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// identityPaths and networkPaths are what --keep identity and --keep network mean in the merged root, beside identity/ itself.
// The last part of each is a pattern of path.Match.
var (
	identityPaths = []string{"/etc/machine-id", "/etc/machine-info", "/etc/hostname", "/etc/ssh/ssh_host_*", "/var/lib/dbus/machine-id",
		"/var/lib/systemd/random-seed", "/var/lib/systemd/credential.secret"}
	networkPaths = []string{"/etc/NetworkManager/system-connections", "/etc/NetworkManager/conf.d", "/etc/systemd/network", "/etc/netplan",
		"/etc/network", "/etc/wpa_supplicant", "/etc/iwd", "/etc/hosts", "/etc/resolv.conf", "/etc/wireguard",
		"/var/lib/NetworkManager", "/var/lib/iwd", "/var/lib/connman", "/var/lib/bluetooth"}
)

// A Step is one rename, or one sort of renames, of a reset, for whoever wants to see it before.
type Step struct {
	From     string   // in the state directory
	Children bool     // all that is in it, but what Except matches
	Except   []string // patterns
}

// ResetPlan is what a reset would do.
type ResetPlan struct {
	Steps []Step
	Kept  []string // in the state directory, patterns
	Notes []string // what was asked for and means nothing here
}

// PlanReset tells what a reset with these words would move, without moving it.
func (d *Dir) PlanReset(r Request, places []Place) (ResetPlan, error) {
	p, err := d.planReset(&r, places)
	if err != nil {
		return ResetPlan{}, err
	}
	plan := ResetPlan{Kept: p.keeps, Notes: p.notes}
	for _, m := range p.moves {
		plan.Steps = append(plan.Steps, Step{m.From, m.Children, m.Except})
	}
	return plan, nil
}

// resetPlan is a plan in the making.
type resetPlan struct {
	d      *Dir
	places []Place
	keeps  []string // places in the state directory, the last part of each a pattern
	moves  []move
	reseed []string
	notes  []string
}

// containers are directories of the state whose entries go, while they stay.
var containers = []string{etcDir, mergeDir, dataDir, identityDir, snapshotsDir}

// planReset turns the words of a reset into moves. What is kept never moves: where something that goes holds something that stays,
// the plan walks down and takes what lies beside it.
func (d *Dir) planReset(r *Request, places []Place) (*resetPlan, error) {
	p := &resetPlan{d: d, places: places}
	for _, k := range r.Keep {
		p.keep(k)
	}
	var targets []string
	switch r.Scope {
	case ScopeAll:
		targets = []string{etcDir, upperDir, mergeDir, dataDir, identityDir, snapshotsDir}
	case ScopeUpper:
		targets = []string{etcDir, upperDir, mergeDir}
	case ScopeData:
		targets = []string{dataDir}
	case ScopeEtc:
		targets = p.targets("/etc")
	default:
		targets = p.targets(r.Scope)
	}
	for _, t := range targets {
		if err := p.take(t); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// targets finds what supplies a path of the merged root: the entry in the deepest place, and every place that lies below it.
func (p *resetPlan) targets(name string) []string {
	var targets []string
	if place, rel, ok := locate(p.places, name); ok && rel == "" {
		targets = append(targets, place.Root)
	} else if ok {
		targets = append(targets, path.Join(place.Files, rel))
	} else {
		p.notes = append(p.notes, fmt.Sprintf("%s is not kept: each boot resets it", quote(name)))
	}
	for _, place := range p.places {
		if below(name, place.Path) && place.Path != name {
			targets = append(targets, place.Root)
		}
	}
	slices.Sort(targets)
	return slices.Compact(targets)
}

func (p *resetPlan) keep(word string) {
	switch word {
	case KeepIdentity:
		p.keeps = append(p.keeps, identityDir)
		p.keepPaths(identityPaths, false)
	case KeepNetwork:
		p.keepPaths(networkPaths, false)
	case KeepSnapshots:
		p.keeps = append(p.keeps, snapshotsDir)
	default:
		p.keepPaths([]string{word}, true)
	}
}

func (p *resetPlan) keepPaths(paths []string, literal bool) {
	for _, name := range paths {
		place, rel, ok := locate(p.places, name)
		switch {
		case !ok:
		case rel == "":
			p.keeps = append(p.keeps, place.Root)
		default:
			dir, last := path.Split(path.Join(place.Files, rel))
			if literal {
				last = literalPattern(last)
			}
			p.keeps = append(p.keeps, dir+last)
		}
		found := ok
		for _, place := range p.places {
			if below(name, place.Path) && place.Path != name {
				p.keeps = append(p.keeps, place.Root)
				found = true
			}
		}
		if !found && literal {
			p.notes = append(p.notes, fmt.Sprintf("keep %s: it is not kept from boot to boot anyway", quote(name)))
		}
	}
}

// literalPattern makes a pattern of a name that matches nothing else.
func literalPattern(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}

// take plans to move what lies at target, but for what is kept.
func (p *resetPlan) take(target string) error {
	st, there, err := p.d.lstat(target)
	if err != nil || !there {
		return err
	}
	isDir := st.Mode&0o170000 == 0o040000
	container := slices.Contains(containers, target)
	if container && !isDir { // what took its name goes, whatever it is
		return p.add(move{From: target})
	}
	var inside []string // keeps that lie in target
	for _, k := range p.keeps {
		dir, last := path.Split(k)
		switch ok := false; {
		case k == target || below(k, target):
			return nil
		case path.Clean(dir) == path.Dir(target):
			if ok, _ = path.Match(last, path.Base(target)); ok {
				return nil
			}
		case below(target, path.Clean(dir)) && isDir && p.exists(k):
			inside = append(inside, k)
		}
	}
	if len(inside) == 0 {
		return p.add(move{From: target, Children: container})
	}
	if p.isUpper(target) {
		// What is kept was written on the base that the stamp names: stamp and work directory stay with it.
		return p.take(path.Join(target, FilesDir))
	}
	m := move{From: target, Children: true}
	var deeper []string
	for _, k := range inside {
		first, rest, more := strings.Cut(strings.TrimPrefix(k, target+"/"), "/")
		if more && rest != "" {
			deeper = append(deeper, first)
			first = literalPattern(first)
		}
		m.Except = append(m.Except, first)
	}
	slices.Sort(m.Except)
	m.Except = slices.Compact(m.Except)
	if err := p.add(m); err != nil {
		return err
	}
	slices.Sort(deeper)
	for _, name := range slices.Compact(deeper) {
		if err := p.take(path.Join(target, name)); err != nil {
			return err
		}
	}
	return nil
}

func (p *resetPlan) add(m move) error {
	if len(p.moves) == maxMoves || len(m.Except) > maxExcept {
		return errors.New("too many single things to keep: name a directory above them")
	}
	for _, place := range p.places {
		if m.From == place.Root || !below(place.Root, m.From) {
			continue
		}
		if place.Overlay() {
			stamp, err := p.d.ReadStamp(place.Root)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				p.notes = append(p.notes, err.Error())
			}
			m.Root, m.Base = place.Root, stamp.Base
		} else {
			p.reseed = append(p.reseed, place.Root)
		}
	}
	// A bound directory of which something stays is one that the base fills again around it.
	for _, place := range p.places {
		if m.From == place.Root && m.Children && !place.Overlay() {
			p.reseed = append(p.reseed, place.Root)
		}
	}
	p.moves = append(p.moves, m)
	return nil
}

// exists reports whether something lies at a keep; a pattern that is none matches literally or, in a directory that is there,
// may match.
func (p *resetPlan) exists(k string) bool {
	dir, last := path.Split(k)
	if strings.ContainsAny(last, `*?[\`) {
		return p.d.isDir(path.Clean(dir))
	}
	_, there, err := p.d.lstat(k)
	return err == nil && there
}

func (p *resetPlan) isUpper(root string) bool {
	for _, place := range p.places {
		if place.Root == root {
			return place.Overlay()
		}
	}
	kind, name, _ := strings.Cut(root, "/")
	switch {
	case strings.Contains(name, "/"):
		return false
	case root == upperDir:
		return true
	case name != "" && (kind == etcDir || kind == mergeDir):
		return true
	}
	return name != "" && kind == dataDir && p.d.looksLikeUpper(root)
}
