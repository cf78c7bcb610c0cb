package merge

import (
	"slices"

	"veneer/overlay/entry"
)

// besider plans the sides of one directory.
type besider struct {
	p     *planner
	at    place
	names []string            // of the upper's directory
	sides map[string][]sideOf // not yet decided on
	taken []string            // names given away
	given map[string]bool     // names whose side lost its name to the base
	stays bool                // some side stays
}

// known returns the names of all sides. A name that the base has taken meanwhile is the base's: a side gives way, and one that
// was edited is a file like any other.
func (b *besider) known() (map[string]bool, error) {
	known := map[string]bool{}
	b.given = map[string]bool{}
	var lost []sideOf
	for _, of := range b.origins() {
		list := b.sides[of]
		var kept []sideOf
		for _, s := range list {
			n, err := b.at.base.child(s.name)
			switch {
			case err != nil:
				return nil, err
			case n == nil:
				kept, known[s.name] = append(kept, s), true
			case !s.edited:
				known[s.name], b.given[of] = true, true
				lost = append(lost, s)
			}
		}
		b.sides[of] = kept
	}
	b.drop(lost, "the base has taken the name")
	return known, nil
}

// decide turns a decision on a name into one with its sides: the base's side of a new conflict is laid beside, that of an older one
// brought up to date or, when the conflict is over, removed. One that somebody has edited is left to him. clash claims that the types differ.
func (b *besider) decide(name string, d deed, clash bool) (deed, error) {
	old := b.sides[name]
	delete(b.sides, name)
	switch {
	case b.at.fixed:
		b.stays = b.stays || len(old) > 0
		return d, nil
	case d.side:
		return b.lay(name, d, old)
	case (len(old) > 0 || b.given[name]) && (d.verdict == KeptLocal || d.verdict == DeletedLocal) && d.op != remove:
		b.stays = true
		if d.verdict, d.note = Conflict, noteEarlier; clash {
			d.verdict = TypeClash
		}
		if len(old) == 0 || !old[0].edited {
			return b.lay(name, d, old)
		}
		b.p.side(b.path(old[0].name))
		return d, nil
	}
	b.drop(old, noteOver)
	return d, nil
}

// lay plans the base's side of a conflict.
func (b *besider) lay(name string, d deed, old []sideOf) (deed, error) {
	digest, fits, err := sideDigest(b.at.base, name)
	if err != nil {
		return d, err
	}
	if !fits {
		d.note = sentence(d.note, "too large to be laid beside: look for it in the base")
		b.drop(old, noteOver)
		return d, nil
	}
	side, current := "", false
	for _, s := range old {
		if s.edited || side != "" {
			b.stays = true
			continue
		}
		side, current = s.name, s.digest == digest
	}
	for i := 1; side == "" && i <= maxSides; i++ {
		free, err := b.free(sideName(name, i))
		if err != nil {
			return d, err
		}
		if free {
			side = sideName(name, i)
		}
	}
	if side == "" {
		d.note = sentence(d.note, "no name is free to lay it beside")
		return d, nil
	}
	b.taken, b.stays = append(b.taken, side), true
	if !current {
		b.p.act(Action{Op: besides, Path: b.path(name), Side: side, Digest: digest}, nil)
	}
	b.p.side(b.path(side))
	return d, nil
}

// free claims that nobody has a name: not the upper, not the base.
func (b *besider) free(name string) (bool, error) {
	if slices.Contains(b.names, name) || slices.Contains(b.taken, name) || entry.Exists(b.at.fd, name) {
		return false, nil
	}
	n, err := b.at.base.child(name)
	return n == nil, err
}

// noteEarlier is of a conflict that an earlier merge has left.
const noteEarlier = "not resolved since an earlier base"

const noteOver = "the conflict is over"

// drop removes sides that nobody has edited.
func (b *besider) drop(list []sideOf, why string) {
	for _, s := range list {
		if s.edited || b.at.fixed {
			b.p.report(b.path(s.name), KeptLocal, "edited since it was laid beside")
			b.stays = true
			continue
		}
		b.p.report(b.path(s.name), Pruned, why)
		b.p.act(Action{Op: unbeside, Path: b.path(s.name), Side: s.name, Digest: s.digest}, nil)
	}
}

// finish decides on sides of names that the upper no longer has, and reports whether any side stays.
func (b *besider) finish() bool {
	for _, name := range b.origins() {
		b.drop(b.sides[name], noteOver)
	}
	return b.stays
}

// origins are the names that there are sides of, sorted.
func (b *besider) origins() []string {
	names := make([]string, 0, len(b.sides))
	for name := range b.sides {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (b *besider) path(name string) string { return join(b.at.path, name) }

func sentence(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}
