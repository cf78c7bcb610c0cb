package changes

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"

	"veneer/overlay/rule"
)

// Layer is a directory, or for a rule that binds one file that file, which holds a part of what one sees.
type Layer struct {
	Role     string `json:"role"` // tools, base, layer; upper, data
	Name     string `json:"name"` // of an image; of what is written the path that it is for
	ID       string `json:"id,omitempty"`
	Dir      string `json:"directory"`
	Verified bool   `json:"verified"`
}

// shortID is how much of an image's ID people see.
const shortID = 12

// String is the layer for people.
func (l Layer) String() string {
	switch l.Role {
	case RoleUpper, RoleData:
		return l.Role + " of " + Plain(l.Name)
	case l.Name:
		return Plain(l.Name) + " " + Plain(l.ID[:min(shortID, len(l.ID))])
	}
	return strings.TrimSpace(Plain(l.Role) + " " + Plain(l.Name) + " " + Plain(l.ID[:min(shortID, len(l.ID))]))
}

// Roles of layers that are written to.
const (
	RoleUpper = "upper"
	RoleData  = "data" // what a rule keeps by itself, without the base beneath
)

// Source is what supplies a part of the tree.
type Source struct {
	Mount  string  // the path from which on it does
	Upper  *Layer  // what is written to; nil: nothing
	Lowers []Layer // bottom first
	Bind   bool    // the upper stands alone; the lowers are what it was seeded from
	Old    *Layer  // an upper to compare with instead of with the lowers alone
	Rule   Rule
}

// Rule is why a source is there.
type Rule struct {
	Action   string     // persist, merge, ephemeral, read-only; "" for the root itself
	Origin   string     // base, site, default
	Volatile bool       // what is written is gone after the next boot
	Why      string     // it is volatile, although it should not be
	Said     *rule.Rule // the whole rule, with globs and policy; nil: not known
}

// Foreign is a mount that is none of ours, or a path that a rule hides.
type Foreign struct {
	Path string `json:"path"`
	What string `json:"what"`
}

// Machine is a whole tree: what supplies which part, and what is left out.
type Machine struct {
	Sources []Source
	Foreign []Foreign
	Notes   []string // what else people should know of the picture
}

// owner is the source that a path belongs to: the one that is mounted deepest.
func (m *Machine) owner(p string) (*Source, *Foreign) {
	var s *Source
	for i := range m.Sources {
		if within(p, m.Sources[i].Mount) && (s == nil || len(m.Sources[i].Mount) > len(s.Mount)) {
			s = &m.Sources[i]
		}
	}
	var deepest *Foreign
	for i, f := range m.Foreign {
		if within(p, f.Path) && (s == nil || len(f.Path) > len(s.Mount) || f.Path == s.Mount && s.Mount != "/") && (deepest == nil || len(f.Path) > len(deepest.Path)) {
			deepest = &m.Foreign[i]
		}
	}
	if deepest != nil {
		return nil, deepest
	}
	return s, nil
}

// within reports whether p is dir or below it.
func within(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir) && p[len(dir)] == '/'
}

// Changes yields what differs on the whole machine, in the order of the paths: a file at /etc/x comes from whoever supplies
// /etc. With an error, a change that has a path says that this path could not be compared; the others follow. What was left
// out comes last.
func (m *Machine) Changes(ctx context.Context, o Options) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		start := cmp.Or(o.Path, "/")
		var streams []iter.Seq2[Change, error]
		for i := range m.Sources {
			s := &m.Sources[i]
			switch owner, _ := m.owner(start); {
			case owner == s:
				streams = append(streams, m.changesOf(ctx, s, start, o))
			case s.Mount != start && within(s.Mount, start):
				if owner, _ := m.owner(s.Mount); owner == s {
					streams = append(streams, m.changesOf(ctx, s, s.Mount, o))
				}
			}
		}
		for c, err := range merge(streams) {
			if !yield(c, err) {
				return
			}
		}
		_, around := m.owner(start)
		for i, f := range m.Foreign {
			if within(f.Path, start) || around == &m.Foreign[i] {
				if !yield(Change{Path: f.Path, Type: LeftOut, Why: f.What}, nil) {
					return
				}
			}
		}
	}
}

// changesOf compares one source with what lies below it, without what is mounted on it.
func (m *Machine) changesOf(ctx context.Context, s *Source, start string, o Options) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		old, new, err := s.views()
		if err != nil {
			yield(Change{}, fmt.Errorf("%s: %w", Plain(s.Mount), err))
			return
		}
		defer old.close()
		defer new.close()
		mounted := map[string]bool{}
		for _, other := range m.Sources {
			mounted[other.Mount] = true
		}
		for _, f := range m.Foreign {
			mounted[f.Path] = true
		}
		skip := func(p string) bool { return p != s.Mount && mounted[p] }
		for c, err := range compare(ctx, old, new, s.Mount, start, skip, o) {
			if !yield(c, err) {
				return
			}
		}
	}
}

// views opens what was and what is.
func (s *Source) views() (old, new *tree, err error) {
	below := s.Lowers
	if s.Bind {
		below = nil
	}
	if s.Old != nil {
		old, err = openTree(s.Old, below)
	} else {
		old, err = openTree(nil, s.Lowers)
	}
	if err != nil {
		return nil, nil, err
	}
	if new, err = openTree(s.Upper, below); err != nil {
		old.close()
		return nil, nil, err
	}
	return old, new, nil
}

// merge joins streams, each in the order of its paths, into one.
func merge(streams []iter.Seq2[Change, error]) iter.Seq2[Change, error] {
	type head struct {
		c    Change
		err  error
		next func() (Change, error, bool)
	}
	return func(yield func(Change, error) bool) {
		var heads []*head
		for _, s := range streams {
			next, stop := iter.Pull2(s)
			defer stop()
			h := &head{next: next}
			var ok bool
			if h.c, h.err, ok = next(); ok {
				heads = append(heads, h)
			}
		}
		for len(heads) > 0 {
			first := slices.MinFunc(heads, func(a, b *head) int { return ComparePaths(a.c.Path, b.c.Path) })
			if !yield(first.c, first.err) {
				return
			}
			var ok bool
			if first.c, first.err, ok = first.next(); !ok {
				heads = slices.DeleteFunc(heads, func(h *head) bool { return h == first })
			}
		}
	}
}

// ComparePaths orders paths as a walk meets them: a directory, what is in it, and then its next sister.
func ComparePaths(a, b string) int {
	as, bs := parts(a), parts(b)
	return slices.Compare(as, bs)
}

// clean makes an absolute path of p, without links being followed.
func clean(p string) string { return path.Clean("/" + p) }
