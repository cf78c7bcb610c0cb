package identity

import (
	"errors"
	"fmt"
	"strings"

	"veneer/overlay/rule"
)

// Setting is one preset and its mode.
type Setting struct {
	Name string `json:"name"`
	Mode Mode   `json:"mode"`
}

// Mode is what becomes of a preset's files.
type Mode string

// The modes. Not every preset has each of them, see Check.
const (
	Persist   Mode = "persist"   // made by the machine once, kept across boots, base changes and resets that keep the identity
	Ephemeral Mode = "ephemeral" // what the machine makes is gone at the next boot
	Generate  Mode = "generate"  // made by veneer at each boot
	Inherit   Mode = "inherit"   // veneer does nothing: as the base and the rules have it

	PerBoot Mode = "per-boot" // of machine-id: another one at each boot
	Derived Mode = "derived"  // of machine-id: a function of the platform's own
)

// The presets.
const (
	Clock          = "clock"
	RandomSeed     = "random-seed"
	MachineID      = "machine-id"
	DBus           = "dbus"
	Hostname       = "hostname"
	SSHHostKeys    = "ssh-host-keys"
	NetworkManager = "network-manager"
	Bluetooth      = "bluetooth"
)

// preset is what a name means.
type preset struct {
	name     string
	files    []string // in the merged root, as globs: copied to and from the state
	dirs     []string // kept by rules, since programs replace the files in them
	modes    []Mode
	volatile Mode // default where nothing is kept
	kept     Mode // default where there is a state
}

// presets are in the order in which they are applied: the clock before anything is written, the seed before anything random is
// made, the machine-id before what is made of it.
var presets = []preset{
	{name: Clock, modes: []Mode{Persist, Ephemeral, Inherit}, volatile: Ephemeral, kept: Persist},
	{name: RandomSeed, files: seedFiles, modes: []Mode{Persist, Ephemeral, Inherit}, volatile: Ephemeral, kept: Persist},
	{name: MachineID, files: []string{etcMachineID}, modes: []Mode{Persist, PerBoot, Derived, Inherit}, volatile: PerBoot, kept: Persist},
	{name: DBus, files: []string{dbusMachineID}, modes: []Mode{Generate, Inherit}, volatile: Generate, kept: Generate},
	{name: Hostname, files: []string{etcHostname}, modes: []Mode{Persist, Ephemeral, Generate, Inherit}, volatile: Inherit, kept: Inherit},
	{name: SSHHostKeys, files: []string{sshDir + "/ssh_host_*"}, modes: []Mode{Persist, Ephemeral, Generate, Inherit}, volatile: Ephemeral, kept: Persist},
	{name: NetworkManager, dirs: []string{"/etc/NetworkManager/system-connections", "/var/lib/NetworkManager"},
		modes: []Mode{Persist, Ephemeral, Inherit}, volatile: Ephemeral, kept: Inherit},
	{name: Bluetooth, dirs: []string{"/var/lib/bluetooth"}, modes: []Mode{Persist, Ephemeral, Inherit}, volatile: Ephemeral, kept: Inherit},
}

func lookup(name string) *preset {
	for i := range presets {
		if presets[i].name == name {
			return &presets[i]
		}
	}
	return nil
}

// Names lists the presets in the order in which they are applied.
func Names() []string {
	names := make([]string, len(presets))
	for i, p := range presets {
		names[i] = p.name
	}
	return names
}

// ErrNoState is the error of a preset that should be kept on a machine that keeps nothing. The machine has an identity all the
// same, for this boot.
var ErrNoState = errors.New("nothing is kept on this machine: persist needs a state")

// Check reports what is wrong with one setting. persistent tells whether the machine has a state.
func Check(s Setting, persistent bool) error {
	p := lookup(s.Name)
	if p == nil {
		return fmt.Errorf("%q is no preset; want one of %s", clip(s.Name), strings.Join(Names(), ", "))
	}
	known := ""
	for _, m := range p.modes {
		if m == s.Mode {
			known = ""
			break
		}
		known += ", " + string(m)
	}
	if known != "" {
		return fmt.Errorf("%q is no mode of %s; want one of %s", clip(string(s.Mode)), s.Name, known[2:])
	}
	if s.Mode == Persist && !persistent {
		return ErrNoState
	}
	return nil
}

// Complete returns a setting for each preset, in the order in which they are applied: those of asked that have a mode, and the
// defaults.
func Complete(asked []Setting, persistent bool) []Setting {
	all := make([]Setting, len(presets))
	for i, p := range presets {
		all[i] = Setting{p.name, p.volatile}
		if persistent {
			all[i].Mode = p.kept
		}
		for _, s := range asked {
			if s.Name == p.name && s.Mode != "" {
				all[i].Mode = s.Mode
			}
		}
	}
	return all
}

// Rules lists the rules that these settings stand for: a directory of a preset that persists, unless it is kept already.
func Rules(settings []Setting, kept Kept) []rule.Rule {
	var rules []rule.Rule
	for _, s := range settings {
		p := lookup(s.Name)
		if p == nil || s.Mode != Persist {
			continue
		}
		for _, dir := range p.dirs {
			if kept.By(dir) == "" { // they hold secrets
				rules = append(rules, rule.Rule{Path: dir, Action: rule.Persist, Form: rule.Bind, Owner: "0:0", Mode: "0700"})
			}
		}
	}
	return rules
}

// Contradicted reports the presets that should be gone at the next boot and lie where a rule keeps them.
func Contradicted(settings []Setting, kept Kept) error {
	var errs []error
	for _, s := range settings {
		p := lookup(s.Name)
		if p == nil || s.Mode != Ephemeral || s.Name == SSHHostKeys || s.Name == RandomSeed {
			continue // these two are cleared at each boot
		}
		var paths []string
		for _, f := range p.files {
			paths = append(paths, "/"+f)
		}
		for _, path := range append(paths, p.dirs...) {
			if by := kept.By(path); by != "" {
				errs = append(errs, fmt.Errorf("%s is ephemeral, and the rule for %s keeps %s: add a rule that makes it ephemeral, or say inherit", s.Name, by, path))
			}
		}
	}
	return errors.Join(errs...)
}

// Kept says which paths of the merged root outlive a boot.
type Kept struct {
	Root  bool        // the root's own upper does
	Rules []rule.Rule // in effect; the deepest has its say
}

// By returns the path of what keeps a path, "/" for the root's upper, or "" where it is gone at the next boot.
func (k Kept) By(path string) string {
	var deepest *rule.Rule
	for i, r := range k.Rules {
		if within(path, r.Path) && (deepest == nil || len(r.Path) > len(deepest.Path)) {
			deepest = &k.Rules[i]
		}
	}
	switch {
	case deepest == nil && k.Root:
		return "/"
	case deepest == nil || !deepest.Kept():
		return ""
	}
	below := strings.TrimPrefix(strings.TrimPrefix(path, strings.TrimSuffix(deepest.Path, "/")), "/")
	if below != "" && !deepest.Survives(below) {
		return ""
	}
	return deepest.Path
}

func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
