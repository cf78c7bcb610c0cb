package initramfs

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// selection is the modules of one initramfs, in an order in which each stands behind what it depends on.
type selection struct {
	tree     *tree
	order    []*module
	deps     map[string][]string // of a module: modules and built-in names, in the order to load them
	why      map[string]string   // the reason that a module was taken for
	builtin  map[string]bool     // wanted, and built into the kernel
	optional []variant
	missing  []Missing
	open     map[string]bool // being added right now
}

// variant is a module to try before another. The CPU may lack what it needs, and then it refuses to load, which is fine.
type variant struct{ name, before string }

// Missing is a module that the policy wanted and the kernel does not have.
type Missing struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// choose applies the policy to the modules of a kernel. need names modules without which the images of this build cannot be
// mounted. All the names that cannot be had are reported at once.
func choose(t *tree, arch string, p Policy, need []string) (*selection, error) {
	s := &selection{tree: t, deps: map[string][]string{}, why: map[string]string{}, builtin: map[string]bool{}, open: map[string]bool{}}
	var errs []error
	demand := func(why string, names ...string) {
		for _, name := range names {
			ok, err := s.add(name, why)
			if err == nil && !ok {
				err = s.unknown(name, why)
			}
			errs = append(errs, err)
		}
	}
	switch p.Kind {
	case "", Generic, List:
	default:
		return nil, fmt.Errorf("modules policy %q: want %q or %q", p.Kind, Generic, List)
	}
	demand(required.why, required.names...)
	demand("file systems of the images", need...)
	demand("named", p.Modules...)
	for _, g := range p.groups(arch) {
		for _, name := range g.names {
			ok, err := s.add(name, g.why)
			if err == nil && !ok {
				s.missing = append(s.missing, Missing{Name: name, Why: g.why})
			}
			errs = append(errs, err)
		}
	}
	return s, errors.Join(errs...)
}

// add takes a module, what it depends on, and what it is of no use without. It reports whether the kernel has it.
func (s *selection) add(name, why string) (bool, error) {
	name = canonical(name)
	if _, taken := s.why[name]; taken || s.builtin[name] {
		return true, nil
	}
	if ok, err := s.take(name, why); !ok || err != nil {
		return false, err
	}
	for _, companion := range companions[name] {
		if _, err := s.add(companion, "for "+name); err != nil {
			return false, err
		}
	}
	return true, nil
}

// take puts a module behind what it depends on.
func (s *selection) take(name, why string) (bool, error) {
	if s.tree == nil || s.tree.builtin[name] {
		s.builtin[name] = true
		return true, nil
	}
	m, err := s.tree.read(name)
	if m == nil || err != nil {
		return false, err
	}
	s.why[name] = why
	s.open[name] = true
	defer delete(s.open, name)
	for _, dep := range m.Depends {
		ok, err := s.add(dep, "needed by "+name)
		if err != nil {
			return false, err
		}
		if !ok {
			return false, fmt.Errorf("module %s needs %s, which is neither in the modules directory of kernel %s nor built in: is the directory complete?",
				name, dep, s.tree.release)
		}
		s.depend(name, dep)
	}
	for _, service := range slices.Concat(m.Before, services[name]) {
		if err := s.addService(service, name); err != nil {
			return false, err
		}
	}
	s.order = append(s.order, m)
	return true, nil
}

// depend notes that name is to be loaded after dep. A soft dependency may close a circle; there it is dropped, as modprobe does.
func (s *selection) depend(name, dep string) {
	if dep = canonical(dep); !s.open[dep] && !slices.Contains(s.deps[name], dep) {
		s.deps[name] = append(s.deps[name], dep)
	}
}

// addService takes what provides a soft dependency: a module, or the implementations of an algorithm. Of those the generic
// one must load; the others are variants for some CPUs. None at all is no error: it would not be one for modprobe.
func (s *selection) addService(service, asker string) error {
	why := service + " for " + asker
	if ok, err := s.add(service, why); ok || err != nil {
		s.depend(asker, service)
		return err
	}
	builtin, loadable, err := s.tree.providers(service)
	if err == nil && len(builtin)+len(loadable) == 0 {
		builtin, loadable, err = s.tree.providers("crypto-" + service)
	}
	if err != nil {
		return err
	}
	if len(builtin)+len(loadable) == 0 {
		s.missing = append(s.missing, Missing{Name: service, Why: why})
	}
	for _, name := range builtin {
		s.builtin[name] = true
	}
	must := s.tree.generic(loadable)
	for _, name := range loadable {
		switch {
		case len(builtin) == 0 && name == must:
			if _, err := s.add(name, why); err != nil {
				return err
			}
			s.depend(asker, name)
		case slices.Contains(accelerated[asker], service):
			if _, err := s.add(name, why); err != nil {
				return err
			}
			if v := (variant{name, asker}); !s.open[name] && !slices.Contains(s.optional, v) {
				s.optional = append(s.optional, v)
			}
		}
	}
	return nil
}

// unknown says that the kernel has no such module, and which names are near.
func (s *selection) unknown(name, why string) error {
	name = canonical(name)
	var near []string
	for _, other := range slices.Sorted(maps.Keys(s.tree.files)) {
		if len(near) < 5 && nearby(name, other) {
			near = append(near, other)
		}
	}
	hint := "; install the package that holds it, or take another kernel"
	if len(near) > 0 {
		hint = "; near names: " + strings.Join(near, ", ")
	}
	return fmt.Errorf("module %s (%s): kernel %s has it neither as a file nor built in%s", name, why, s.tree.release, hint)
}

// nearby reports whether two names differ in at most two letters, or one is part of the other.
func nearby(a, b string) bool {
	if len(a) > 3 && strings.Contains(b, a) || len(b) > 3 && strings.Contains(a, b) {
		return true
	}
	return distance(a, b) <= min(2, len(a)/3)
}

// distance counts the letters to insert, remove or change to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
