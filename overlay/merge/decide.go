package merge

// Verdict is what became of a path. The words are API.
type Verdict string

// The verdicts. Of a path with two sides that exclude each other the local one always wins, and the other lies beside it.
const (
	KeptLocal    Verdict = "kept-local"
	TookNew      Verdict = "took-new"      // nothing local in it: the new base shows
	Pruned       Verdict = "pruned"        // equal to the new base, which therefore shows
	DeletedLocal Verdict = "deleted-local" // stays deleted
	Merged       Verdict = "merged"        // some of each side
	Conflict     Verdict = "conflict"
	TypeClash    Verdict = "type-clash" // a conflict of a file with a directory, or the like
)

// kind is the type of a path on one side.
type kind byte

const (
	absent   kind = '-'
	unknown  kind = '?' // the old side, without an index
	whiteout kind = 'w'
	dir      kind = 'd'
	file     kind = 'f'
	link     kind = 'l'
	// Devices, fifos and sockets have the letters of an index.
)

// bits are the ways in which two entries of one type differ.
type bits int

const (
	content bits = 1 << iota // bytes, target, or device number
	mode
	owner
	xattrs
)

// state is all that a decision needs to know of a path. Bits count only where the types are equal.
type state struct {
	old, base, upper kind // in the old base, the new base, the upper
	local            bits // upper against old
	fresh            bits // new base against old
	apart            bits // upper against new base
	rest             bool // a directory of the upper: something stays in it
}

// op is what is done to an entry of the upper.
type op string

const (
	leave    op = ""
	remove   op = "remove"
	take     op = "take" // some bits from the new base
	byEntry  op = "by-entry"
	hide     op = "whiteout"
	reveal   op = "clear-opaque" // the last thing done to a directory
	besides  op = "side"         // the base's side at NAME.new
	unbeside op = "remove-side"
)

// deed is a decision.
type deed struct {
	verdict Verdict // empty: nothing to tell
	op      op
	take    bits
	side    bool // the base's side belongs beside it
	note    string
}

const (
	noteGone    = "the base no longer has it"
	noteTwoWay  = "the old base is not known"
	noteBoth    = "made on both sides"
	noteDirMeta = "owner, mode or attributes of the directory"
	noteMeta    = "owner, mode or attributes"
)

// decide is the merge of one path.
//
//	upper against old  new base against old     then
//	same               anything                 the new base shows: took-new, or pruned where it is the same or gone
//	anything           same as the upper        pruned
//	changed            same, or gone            kept-local
//	changed            changed, elsewhere in it merged
//	changed            changed                  conflict, or type-clash where the types differ
//	deleted            same                     deleted-local
//	deleted            changed                  conflict, or type-clash
//	deleted            gone                     pruned
func decide(s state) deed {
	switch {
	case s.upper == whiteout:
		return decideDeleted(s)
	case s.upper == dir:
		return decideDir(s)
	case s.base == absent && s.untouched():
		return deed{verdict: Pruned, op: remove, note: noteGone}
	case s.base == absent:
		return deed{verdict: KeptLocal, note: s.gone()}
	case s.upper == s.base && s.apart == 0:
		return deed{verdict: Pruned, op: remove}
	case s.untouched():
		return deed{verdict: TookNew, op: remove}
	case s.still():
		return deed{verdict: KeptLocal}
	case s.upper != s.base:
		return deed{verdict: TypeClash, side: true, note: s.twoWay("")}
	case s.upper != s.old:
		return deed{verdict: Conflict, side: true, note: s.twoWay(noteBoth)}
	}
	if clash := s.local & s.fresh & s.apart; clash != 0 {
		d := deed{verdict: Conflict, side: true}
		if clash&content == 0 {
			d.note = noteMeta
		}
		return d
	}
	from := s.fresh &^ s.local
	switch {
	case s.apart&^from == 0:
		return deed{verdict: Pruned, op: remove}
	case from == 0: // what the base changed was changed here in the same way, and more
		return deed{verdict: KeptLocal}
	}
	return deed{verdict: Merged, op: take, take: from}
}

// decideDeleted decides on a name that is deleted in the upper.
func decideDeleted(s state) deed {
	switch {
	case s.base == absent:
		return deed{verdict: Pruned, op: remove, note: noteGone}
	case s.old == unknown:
		return deed{verdict: DeletedLocal, note: noteTwoWay}
	case s.old == absent:
		return deed{verdict: TookNew, op: remove, note: "the base did not have it when it was deleted"}
	case s.still():
		return deed{verdict: DeletedLocal}
	case s.base != s.old:
		return deed{verdict: TypeClash, side: true, note: "deleted, and another type in the base"}
	}
	return deed{verdict: Conflict, side: true, note: "deleted, and changed in the base"}
}

// decideDir decides on a directory, after all that is in it: it stays as long as something in it stays.
func decideDir(s state) deed {
	empty := func(d deed) deed { // nothing is lost with an empty directory that the base has just so
		if !s.rest {
			d.op, d.take = remove, 0
		}
		return d
	}
	switch {
	case s.base != dir && s.untouched() && !s.rest:
		if s.base == absent {
			return deed{verdict: Pruned, op: remove, note: noteGone}
		}
		return deed{verdict: TookNew, op: remove}
	case s.base == absent:
		return deed{verdict: KeptLocal, note: s.gone()}
	case s.base != dir && s.still():
		return deed{verdict: KeptLocal}
	case s.base != dir:
		return deed{verdict: TypeClash, side: true, note: s.twoWay("")}
	case s.apart == 0 && s.rest:
		return deed{} // it only carries what is in it
	case s.apart == 0:
		return deed{verdict: Pruned, op: remove}
	case s.old != dir:
		return deed{verdict: Conflict, note: s.twoWay(noteBoth + ": " + noteDirMeta)}
	case s.local == 0:
		return empty(deed{verdict: TookNew, op: take, take: s.fresh, note: noteDirMeta})
	case s.fresh == 0:
		return deed{verdict: KeptLocal, note: noteDirMeta}
	case s.local&s.fresh&s.apart != 0:
		return deed{verdict: Conflict, note: noteDirMeta}
	}
	from := s.fresh &^ s.local
	switch {
	case from == 0:
		return deed{verdict: KeptLocal, note: noteDirMeta}
	case s.apart&^from == 0:
		return empty(deed{verdict: TookNew, op: take, take: from, note: noteDirMeta})
	}
	return deed{verdict: Merged, op: take, take: from, note: noteDirMeta}
}

// untouched claims that the upper's entry is what was in the old base: it was copied up, and no more.
func (s state) untouched() bool { return s.upper == s.old && s.local == 0 }

// still claims that the base did not change here. What is in a directory decides for itself.
func (s state) still() bool { return s.base == s.old && (s.fresh == 0 || s.base == dir) }

func (s state) gone() string {
	if s.old == absent || s.old == unknown {
		return ""
	}
	return noteGone
}

func (s state) twoWay(note string) string {
	if s.old == unknown {
		return noteTwoWay
	}
	return note
}
