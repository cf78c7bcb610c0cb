package changes

// Who has something at a path, layer by layer.

import (
	"path"
	"strings"
)

// holders lists who has the path: the layers of the source that owns it, and what its mount covers.
func (v *views) holders(a *Answer, it *item, s *Source) error {
	old, new, err := v.of(s)
	if err != nil {
		return err
	}
	rel := a.Path[len(s.Mount):]
	if err := new.holders(a, it, rel); err != nil {
		return err
	}
	if s.Bind {
		if err := old.all(a, rel, Seed); err != nil {
			return err
		}
	}
	for i := range v.m.Sources {
		under := &v.m.Sources[i]
		if under == s || under.Upper == nil || !within(a.Path, under.Mount) || len(under.Mount) >= len(s.Mount) {
			continue
		}
		t, err := openTree(under.Upper, nil)
		if err != nil {
			return err
		}
		err = t.all(a, a.Path[len(under.Mount):], Covered)
		t.close()
		if err != nil {
			return err
		}
	}
	return nil
}

// holders adds the layers of a view that have rel, of which it is what one sees.
func (t *tree) holders(a *Answer, it *item, rel string) error {
	around := &item{}
	if len(parts(rel)) > 0 {
		var err error
		if around, err = t.resolve(path.Dir(path.Clean("/" + rel))); err != nil {
			return err
		}
		defer around.close()
	}
	for _, r := range t.roots {
		if it.found() {
			e, state, err := it.part(r.layer)
			if err != nil {
				return err
			}
			if e != nil {
				a.hold(t.layers[r.layer], e, rel, state)
				continue
			}
		}
		if e, merged, err := around.below(r.layer, path.Base(rel)); err != nil {
			return err
		} else if merged {
			if e != nil {
				a.hold(t.layers[r.layer], e, rel, Hidden)
			}
			continue
		}
		if err := r.raw(a, t.layers[r.layer], rel, Hidden); err != nil {
			return err
		}
	}
	return nil
}

// below is what a layer has under a name in the directory in which it has a part; after a rename that is elsewhere.
func (it *item) below(layer int, name string) (e *entry, merged bool, err error) {
	for _, d := range it.dirs {
		if d.layer == layer {
			e, err := d.stat(name)
			return e, true, err
		}
	}
	return nil, false, nil
}

// part is what the layer has to do with what one sees.
func (it *item) part(layer int) (*entry, string, error) {
	switch {
	case it.in.layer == layer:
		return it.entry, Supplies, nil
	case it.data != nil && it.data.in.layer == layer:
		return it.data, Content, nil
	}
	for _, d := range it.dirs {
		if d.layer == layer {
			e, err := d.self()
			return e, Merged, err
		}
	}
	return nil, "", nil
}

// all adds each layer that has rel.
func (t *tree) all(a *Answer, rel, state string) error {
	for _, r := range t.roots {
		if err := r.raw(a, t.layers[r.layer], rel, state); err != nil {
			return err
		}
	}
	return nil
}

// raw adds what one layer has by itself.
func (r root) raw(a *Answer, l Layer, rel, state string) error {
	it := &item{}
	defer it.close()
	var e *entry
	var err error
	switch names := parts(rel); {
	case r.file != "" && len(names) == 0:
		e, err = r.stat(r.file)
	case r.file != "":
	case len(names) == 0:
		e, err = r.self()
	default:
		e, _, err = it.walk(r.dir, strings.Join(names, "/"))
	}
	if e == nil || err != nil {
		return err
	}
	a.hold(l, e, rel, state)
	return nil
}

func (a *Answer) hold(l Layer, e *entry, rel, state string) {
	h := Holder{Layer: l, State: state, Kind: e.kind(), Size: e.st.Size, Mode: e.st.Mode & 0o7777, UID: e.st.Uid, GID: e.st.Gid}
	if e.whiteout {
		state = Deletes
		h = Holder{Layer: l, State: state}
	}
	if at := path.Clean(e.path()); state != Deletes && l.Role != RoleData && len(parts(rel)) > 0 && at != strings.Join(parts(rel), "/") {
		h.At = "/" + at
	}
	a.Holders = append(a.Holders, h)
}
