package merge

import "strings"

// oldSide finds a path of the old base.
type oldSide func(path string) (*node, error)

// oldSide is what is known of the old base, nil for nothing.
func (s *Spec) oldSide() oldSide {
	if s.Old == nil {
		return nil
	}
	return func(path string) (*node, error) {
		e, ok, err := s.Old.Lookup(path)
		if err != nil || !ok {
			return nil, err
		}
		return indexed(e), nil
	}
}

// lookup finds what the old base had; there is nothing to be found below what was no directory.
func (p *planner) lookup(path string, oldDir bool) (*node, error) {
	if p.old == nil || !oldDir {
		return nil, nil
	}
	return p.old(path)
}

// compare turns the three sides of a path into what a decision needs.
func compare(o, n, u *node, twoWay bool) (s state, err error) {
	s = state{old: kindOf(o), base: kindOf(n), upper: u.kind}
	if twoWay {
		s.old = unknown
	}
	if n != nil && u.kind == n.kind {
		if s.apart, err = differ(u, n); err != nil {
			return s, err
		}
	}
	if o != nil && u.kind == o.kind {
		if s.local, err = differ(u, o); err != nil {
			return s, err
		}
	}
	if o != nil && n != nil && o.kind == n.kind {
		s.fresh, err = differ(n, o)
	}
	return s, err
}

// Limits of the search for changes below a directory that is deleted as a whole.
const (
	maxBelow      = 512
	maxBelowBytes = 8 << 20
)

// changedBelow notes that the base changed something in a directory that is deleted here.
func (p *planner) changedBelow(base *view, name, path string) (note string, err error) {
	seen, bytes := 0, int64(0)
	all, err := base.walk(name, path, 0, func(n *node, path string) (bool, error) {
		o, err := p.lookup(path, true)
		if err != nil {
			return false, err
		}
		seen++
		if o == nil || o.kind != n.kind {
			note = "the base changed below: " + strings.TrimPrefix(path, "./")
			return false, nil
		}
		if bytes += n.Size; seen > maxBelow || bytes > maxBelowBytes {
			return false, nil
		}
		d, err := differ(n, o)
		if d != 0 {
			note = "the base changed below: " + path
		}
		return d == 0, err
	})
	if p.old == nil {
		return noteTwoWay, err
	}
	if err == nil && !all && note == "" {
		note = "too large to look for changes below"
	}
	return note, err
}
