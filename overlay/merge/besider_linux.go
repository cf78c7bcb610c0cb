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
	stays bool                // some side stays
}

// decide turns a decision on a name into one with its sides: the base's side of a new conflict is laid beside, that of an older one
// brought up to date or, when the conflict is over, removed. One that somebody has edited is left to him.
func (b *besider) decide(name string, d deed) (deed, error) {
	old := b.sides[name]
	delete(b.sides, name)
	switch {
	case b.at.fixed:
		b.stays = b.stays || len(old) > 0
		return d, nil
	case d.side:
		return b.lay(name, d, old)
	case len(old) > 0 && (d.verdict == KeptLocal || d.verdict == DeletedLocal) && d.op != remove:
		b.stays = true
		clash := d
		clash.verdict, clash.note = Conflict, "not resolved since an earlier base"
		b.p.side(b.path(old[0].name))
		return clash, nil
	}
	b.drop(old)
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
		b.drop(old)
		return d, nil
	}
	side := ""
	for _, s := range old {
		if s.edited || side != "" {
			b.stays = true
			continue
		}
		side = s.name
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
	b.p.act(Action{Op: besides, Path: join(b.at.path, name), Side: side, Digest: digest}, nil)
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

// drop removes sides that nobody has edited.
func (b *besider) drop(list []sideOf) {
	for _, s := range list {
		if s.edited || b.at.fixed {
			b.p.report(b.path(s.name), KeptLocal, "edited since it was laid beside")
			b.stays = true
			continue
		}
		b.p.report(b.path(s.name), Pruned, "the conflict is over")
		b.p.act(Action{Op: unbeside, Path: b.path(s.name), Side: s.name, Digest: s.digest}, nil)
	}
}

// finish decides on sides of names that the upper no longer has, and reports whether any side stays.
func (b *besider) finish() bool {
	names := make([]string, 0, len(b.sides))
	for name := range b.sides {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b.drop(b.sides[name])
	}
	return b.stays
}

func (b *besider) path(name string) string { return join(b.at.path, name) }

func sentence(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}
