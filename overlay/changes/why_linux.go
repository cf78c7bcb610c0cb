package changes

import (
	"context"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Answer says who supplies a path.
type Answer struct {
	Path     string   // as it is reached: without links in the directories on the way
	Asked    string   // when that is another
	Kind     Kind     // "" where nothing is
	Layer    *Layer   // that supplies it; nil where nothing is, and where it is foreign
	Foreign  *Foreign // the mount or mask that the path belongs to
	Rule     Rule     // that governs it
	Mount    string   // from which path on
	Reason   string   // why nothing is there
	Holders  []Holder // all that have the path, top first
	Target   string   // of a link
	Differs  *Change  // from what lies below; nil: it does not, or there is nothing written
	Survives Survival
	Leads    *Answer // what a link leads to
}

// Holder is a layer that has something at a path.
type Holder struct {
	Layer Layer
	At    string // where in the layer, when it is elsewhere: "/old" after a rename
	State string // one of the states below
	Kind  Kind
	Size  int64
	Mode  uint32
	UID   uint32
	GID   uint32
}

// States of a Holder.
const (
	Supplies = "supplies" // what one sees
	Merged   = "merged"   // a directory whose entries are seen too
	Content  = "content"  // of a file of which only the metadata was copied up
	Hidden   = "hidden"   // below what one sees
	Deletes  = "deletes"  // a whiteout
	Seed     = "seed"     // what data began as; or would begin as
	Covered  = "covered"  // below the mount of a rule
)

// maxLinks is how many links are followed (ELOOP after 40 in fs/namei.c).
const maxLinks = 40

// Why says who supplies a path, which is absolute. Links in the directories on the way are followed as the kernel would; a link
// at its end is told of itself, and what it leads to as well.
func (m *Machine) Why(p string) (*Answer, error) {
	v := &views{m: m, open: map[*Source][2]*tree{}}
	defer v.close()
	a, err := v.why(clean(p), maxLinks)
	told := map[string]bool{}
	for at := a; err == nil && at.Target != "" && !told[at.Path]; at = at.Leads {
		told[at.Path] = true
		to := at.Target
		if !path.IsAbs(to) {
			to = path.Join(path.Dir(at.Path), to)
		}
		if at.Leads, err = v.why(clean(to), maxLinks); err == nil && told[at.Leads.Path] {
			at.Leads = nil // round and round
			break
		}
	}
	return a, err
}

// Reach is the absolute path p without links in the directories on the way: the path by which the layers know it.
func (m *Machine) Reach(p string) (string, error) {
	v := &views{m: m, open: map[*Source][2]*tree{}}
	defer v.close()
	links := maxLinks
	return v.reach(clean(p), &links)
}

// views are the trees that an answer has looked into.
type views struct {
	m    *Machine
	open map[*Source][2]*tree
}

func (v *views) close() {
	for _, t := range v.open {
		t[0].close()
		t[1].close()
	}
}

func (v *views) of(s *Source) (old, new *tree, err error) {
	if t, ok := v.open[s]; ok {
		return t[0], t[1], nil
	}
	if old, new, err = s.views(); err != nil {
		return nil, nil, err
	}
	v.open[s] = [2]*tree{old, new}
	return old, new, nil
}

// look finds what one sees at a path without following anything. Nothing but the owner is known of what is foreign.
func (v *views) look(p string) (*item, *Source, *Foreign, error) {
	s, f := v.m.owner(p)
	if f != nil || s == nil {
		return nil, nil, f, nil
	}
	_, t, err := v.of(s)
	if err != nil {
		return nil, nil, nil, err
	}
	it, err := t.resolve(p[len(s.Mount):])
	return it, s, nil, err
}

// reach follows the links of the directories on the way to p.
func (v *views) reach(p string, links *int) (string, error) {
	at, todo := "/", parts(p)
	for len(todo) > 1 {
		next := path.Join(at, todo[0])
		it, _, f, err := v.look(next)
		if err != nil {
			return "", err
		}
		if f != nil || !it.found() || it.kind() != Link {
			it.close()
			at, todo = next, todo[1:]
			continue
		}
		target, err := it.target()
		it.close()
		if err != nil {
			return "", err
		}
		if *links--; *links < 0 {
			return "", fmt.Errorf("%s: %w", Plain(p), unix.ELOOP)
		}
		rest := strings.Join(todo[1:], "/")
		if !path.IsAbs(target) {
			target = path.Join(at, target)
		}
		at, todo = "/", parts(path.Join(target, rest))
	}
	return path.Join(append([]string{at}, todo...)...), nil
}

func (v *views) why(asked string, links int) (*Answer, error) {
	p, err := v.reach(asked, &links)
	if err != nil {
		return nil, err
	}
	a := &Answer{Path: p}
	if p != asked {
		a.Asked = asked
	}
	it, s, f, err := v.look(p)
	if err != nil {
		return nil, err
	}
	defer it.close()
	a.Foreign = f
	if s == nil {
		return a, nil
	}
	a.Mount, a.Rule = s.Mount, s.Rule
	if err := v.holders(a, it, s); err != nil {
		return nil, err
	}
	if it.found() {
		_, t, _ := v.of(s)
		a.Kind, a.Layer = it.kind(), &t.layers[it.in.layer]
		if a.Kind == Link {
			if a.Target, err = it.target(); err != nil {
				return nil, err
			}
		}
	} else if a.Reason, err = v.reason(p, it, s); err != nil {
		return nil, err
	}
	if a.Differs, err = v.differs(p, it, s); err != nil {
		return nil, err
	}
	a.Survives = a.survival(s)
	return a, nil
}

// differs compares the path alone with what lies below its upper.
func (v *views) differs(p string, it *item, s *Source) (*Change, error) {
	old, new, err := v.of(s)
	if err != nil || s.Upper == nil {
		return nil, err
	}
	w := &walk{old: old, new: new, ctx: context.Background()}
	var was *item
	if it.found() && it.in.layer == 0 {
		var is *item
		was, is, err = w.pair(s.Mount, p)
		is.close()
	} else {
		was, err = old.resolve(p[len(s.Mount):])
	}
	if err != nil {
		return nil, err
	}
	defer was.close()
	c := &Change{Path: p, Type: Same}
	switch {
	case !was.found() && !it.found():
		return nil, nil
	case !it.found():
		c.Type, c.Kind = Deleted, was.kind()
		return c, nil
	case it.in.layer > 0 && was.found() && was.inode() == it.inode():
		return nil, nil // the upper has nothing to do with it
	}
	c.Kind = it.kind()
	switch {
	case !was.found():
		c.Type, c.From = Added, it.from(p, s)
		return c, nil
	case was.kind() != it.kind():
		c.Type, c.Was = TypeChanged, was.kind()
	default:
		err = w.differences(c, was, it)
	}
	if at := path.Join(s.Mount, was.path()); at != p && len(parts(was.path())) > 0 && !s.Bind {
		c.From = at
	}
	return c, err
}

// from is where the images have what is seen at p after a directory or a file was renamed; "" where nothing was.
func (it *item) from(p string, s *Source) string {
	at := ""
	switch {
	case it.in.layer > 0:
		at = it.entry.path()
	case len(it.dirs) > 1:
		at = it.dirs[1].path
	case it.data != it.entry:
		at = it.data.path()
	}
	if at = path.Join(s.Mount, at); at == p || at == s.Mount {
		return ""
	}
	return at
}

// reason says why nothing is there: the nearest directory on the way knows.
func (v *views) reason(p string, it *item, s *Source) (string, error) {
	_, t, err := v.of(s)
	if err != nil {
		return "", err
	}
	if it.deleter != nil {
		return fmt.Sprintf("deleted: the %s has a whiteout for it", t.layers[it.deleter.in.layer]), nil
	}
	for dir := path.Dir(p); within(dir, s.Mount); dir = path.Dir(dir) {
		around, err := t.resolve(dir[len(s.Mount):])
		if err != nil {
			return "", err
		}
		found, kind, layer := around.found(), Kind(""), 0
		if found {
			kind, layer = around.kind(), around.in.layer
		} else if around.deleter != nil {
			layer = around.deleter.in.layer
		}
		opaque := found && len(around.dirs) < len(t.roots) && around.opaque
		deleted := around.deleter != nil
		around.close()
		switch {
		case deleted:
			return fmt.Sprintf("deleted: the %s has a whiteout for %s", t.layers[layer], Plain(dir)), nil
		case found && kind != Directory:
			return fmt.Sprintf("%s is a %s, in the %s", Plain(dir), kind, t.layers[layer]), nil
		case opaque && v.lowerHas(p, s):
			return fmt.Sprintf("deleted: %s was made anew in the %s, and hides what others have there", Plain(dir), t.layers[layer]), nil
		}
		if dir == "/" || dir == s.Mount {
			break
		}
	}
	if s.Bind && v.lowerHas(p, s) {
		return fmt.Sprintf("the images have it, and the data that %s keeps has not: deleted, or newer than its seed", Plain(s.Mount)), nil
	}
	return "nobody has it", nil
}

func (v *views) lowerHas(p string, s *Source) bool {
	old, _, err := v.of(s)
	if err != nil {
		return false
	}
	it, err := old.resolve(p[len(s.Mount):])
	defer it.close()
	return err == nil && it.found()
}
