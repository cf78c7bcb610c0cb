package machine

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"veneer/stage"
)

// Where the initramfs keeps its modules, and the first line of their index.
const (
	modulesDir  = "/lib/modules"
	indexPath   = modulesDir + "/index"
	indexHeader = "veneer-modules 1"
)

// module is one module of the initramfs.
type module struct {
	deps     []string // loaded before it, in order
	optional []string // tried before it; a CPU may lack what they need
	loaded   bool
}

// alias is a pattern of device names that a module drives.
type alias struct{ pattern, module string }

// Modules loads kernel modules by name and by the aliases of devices, from the index that was computed at build time.
type Modules struct {
	release string
	modules map[string]*module
	builtin map[string]bool
	aliases map[string][]alias // by what stands before the first colon: pci, usb, virtio
	insert  func(name string) error

	// Emulated says that the CPU is a program: what is accelerated by vector instructions is slower there, so that optional
	// modules are left out.
	Emulated bool
}

// ReadModules reads an index:
//
//	veneer-modules 1
//	release RELEASE
//	builtin NAME
//	module NAME [DEP ...]       deps stand further up
//	optional NAME FOR
//	alias PATTERN NAME
func ReadModules(r io.Reader) (*Modules, error) {
	m := &Modules{modules: map[string]*module{}, builtin: map[string]bool{}, aliases: map[string][]alias{}}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		words := strings.Fields(lines.Text())
		if n == 1 {
			if lines.Text() != indexHeader {
				return nil, fmt.Errorf("%s: line 1: want %q", indexPath, indexHeader)
			}
			continue
		}
		if err := m.add(words); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", indexPath, n, err)
		}
	}
	return m, lines.Err()
}

func (m *Modules) add(words []string) error {
	switch {
	case len(words) == 0:
	case words[0] == "release" && len(words) == 2:
		m.release = words[1]
	case words[0] == "builtin" && len(words) == 2:
		m.builtin[words[1]] = true
	case words[0] == "module" && len(words) >= 2:
		for _, dep := range words[2:] {
			if m.modules[dep] == nil && !m.builtin[dep] {
				return fmt.Errorf("module %s depends on %s, which does not stand before it", words[1], dep)
			}
		}
		m.modules[words[1]] = &module{deps: words[2:]}
	case words[0] == "optional" && len(words) == 3:
		mod := m.modules[words[2]]
		if mod == nil {
			return nil // what it would speed up is built in
		}
		mod.optional = append(mod.optional, words[1])
	case words[0] == "alias" && len(words) == 3:
		bus, _, _ := strings.Cut(words[1], ":")
		m.aliases[bus] = append(m.aliases[bus], alias{words[1], words[2]})
	default:
		return fmt.Errorf("cannot read %q", strings.Join(words, " "))
	}
	return nil
}

// CheckRelease reports whether the modules belong to the kernel that runs.
func (m *Modules) CheckRelease(running string) error {
	if m.release == "" || m.release == running {
		return nil
	}
	return fmt.Errorf("%w: %s, but %s runs", stage.ErrOtherKernel, m.release, running)
}

// Load makes the feature of a module available: loads it after what it depends on, unless it is loaded or built in.
func (m *Modules) Load(name string) error {
	if m.builtin[name] {
		return nil
	}
	mod := m.modules[name]
	if mod == nil {
		if _, err := os.Stat("/sys/module/" + name); err == nil {
			return nil // built in, or loaded by somebody else
		}
		return fmt.Errorf("module %s is neither in the initramfs nor built in: name it in kernel.modules.list", name)
	}
	if mod.loaded {
		return nil
	}
	mod.loaded = true // before its dependencies, so that a cycle ends
	for _, opt := range mod.optional {
		if !m.Emulated {
			_ = m.Load(opt)
		}
	}
	for _, dep := range mod.deps {
		if err := m.Load(dep); err != nil {
			mod.loaded = false
			return err
		}
	}
	if err := m.insert(name); err != nil {
		mod.loaded = false
		return err
	}
	return nil
}

// Drives reports whether any module drives devices of a bus, by its name in /sys/bus. A device of the platform bus goes by the
// name that the firmware gave it.
func (m *Modules) Drives(bus string) bool {
	if bus == "platform" && (m.aliases["acpi"] != nil || m.aliases["of"] != nil) {
		return true
	}
	return m.aliases[bus] != nil
}

// Match returns the modules that drive a device with this modalias.
func (m *Modules) Match(modalias string) []string {
	bus, _, _ := strings.Cut(modalias, ":")
	var names []string
	for _, a := range m.aliases[bus] {
		if !mayMatch(a.pattern, modalias) {
			continue
		}
		if ok, _ := path.Match(a.pattern, modalias); ok {
			names = append(names, a.module)
		}
	}
	return names
}

// mayMatch compares up to the first wildcard, which is all it takes for nearly every pair.
func mayMatch(pattern, name string) bool {
	for i := range len(pattern) {
		switch c := pattern[i]; {
		case c == '*' || c == '?' || c == '[' || c == '\\':
			return true
		case i >= len(name) || c != name[i]:
			return false
		}
	}
	return len(pattern) == len(name)
}
