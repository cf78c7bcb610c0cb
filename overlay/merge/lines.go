package merge

import (
	"bytes"
	"errors"
	"slices"
	"strings"
)

// Form says how a file that is merged by entry is written: one entry a line, its first field the key.
type Form struct {
	fields  int // separated by colons; 0: any line, whose key is its first word
	uid     int // the field with a user's number, -1 for none
	gid     int // the field with a group's number
	ids     int // the field with a number that is the key's own: two keys must not share it
	span    int // the field with the length of a range that begins at ids
	members int // the field with a list of names, merged as a set
	more    int // another one
}

// forms are the files that are always merged by entry, by their path in /etc.
var forms = map[string]Form{
	"passwd":  {fields: 7, uid: 2, gid: 3, ids: 2, span: -1, members: -1, more: -1},
	"group":   {fields: 4, uid: -1, gid: 2, ids: 2, span: -1, members: 3, more: -1},
	"shadow":  {fields: 9, uid: -1, gid: -1, ids: -1, span: -1, members: -1, more: -1},
	"gshadow": {fields: 4, uid: -1, gid: -1, ids: -1, span: -1, members: 3, more: 2},
	"subuid":  {fields: 3, uid: -1, gid: -1, ids: 1, span: 2, members: -1, more: -1},
	"subgid":  {fields: 3, uid: -1, gid: -1, ids: 1, span: 2, members: -1, more: -1},
}

// Lines is the form of any other file with a key at the beginning of each line, up to a colon, an equals sign or white space.
var Lines = Form{uid: -1, gid: -1, ids: -1, span: -1, members: -1, more: -1}

// FormOf returns the form of passwd, group, shadow, gshadow, subuid and subgid.
func FormOf(name string) (Form, bool) {
	f, ok := forms[name]
	return f, ok
}

// ErrTooLong means that a file is too long to be merged by entry: more than MaxEntries lines or MaxText bytes.
var ErrTooLong = errors.New("too long to be merged by entry")

// Limits of a file that is merged by entry.
const (
	MaxText    = 1 << 20
	MaxEntries = 1 << 16
)

// row is a line.
type row struct {
	key    string // empty: a comment, a blank line, a NIS entry (+ or -) or what is malformed; it stays where it is
	fields []string
	end    string // how the line ends: \n, \r\n, or without \n at the end of the file
	text   string // without the end
}

// parse splits a file into its lines.
func (f Form) parse(text []byte) ([]row, error) {
	if len(text) > MaxText || bytes.Count(text, []byte("\n")) > MaxEntries {
		return nil, ErrTooLong
	}
	var rows []row
	for len(text) > 0 {
		line, rest, ended := bytes.Cut(text, []byte("\n"))
		r := row{text: string(bytes.TrimRight(line, "\r"))}
		r.end = string(line[len(r.text):])
		if ended {
			r.end += "\n"
		}
		r.fields = f.split(r.text)
		if r.fields != nil {
			r.key = r.fields[0]
		}
		rows, text = append(rows, r), rest
	}
	return rows, nil
}

// split returns the fields of a line, nil for one that is no entry.
func (f Form) split(line string) []string {
	if line == "" || strings.ContainsRune(line, '\r') || strings.IndexByte("#+-", line[0]) >= 0 && (f.fields > 0 || line[0] == '#') {
		return nil
	}
	if f.fields == 0 {
		i := strings.IndexAny(line, ":= \t")
		if i == 0 {
			return nil
		}
		if i < 0 {
			return []string{line, ""}
		}
		return []string{line[:i], line[i:]}
	}
	fields := strings.Split(line, ":")
	if len(fields) != f.fields || fields[0] == "" {
		return nil
	}
	return fields
}

func (f Form) join(fields []string) string {
	if f.fields == 0 {
		return strings.Join(fields, "")
	}
	return strings.Join(fields, ":")
}

// MergeEntries merges a file by entry: for each key, and within an entry for each field, what one side left as it was the other
// side decides, and where both changed it the local side wins, with a line in notes. Members of a group are merged as a set.
//
// Local lines keep their order; what the base added follows its neighbour there, or stands at the end. Comments, blank lines,
// NIS entries and what is malformed stay where the local file has them; those of the base are not taken. The number of a user or
// group that exists is never changed while owns says that files have it. Merging the result again changes nothing.
func MergeEntries(f Form, old, base, local []byte, owns func(id string, group bool) bool) (text []byte, notes []string, err error) {
	m := merger{form: f, owns: owns}
	for _, side := range []struct {
		text []byte
		rows *[]row
	}{{old, &m.old}, {base, &m.base}, {local, &m.local}} {
		if *side.rows, err = f.parse(side.text); err != nil {
			return nil, nil, err
		}
	}
	rows := m.place(m.locals())
	m.clashes(rows)
	return printRows(rows), m.notes, nil
}

type merger struct {
	form             Form
	owns             func(id string, group bool) bool
	old, base, local []row
	twice            map[string]bool // keys that stand twice in a file: their lines are a set
	added            map[string]bool // lines of the base that are new, by identity
	notes            []string
}

// identity is what a line is told by: its key, or the whole line where the key stands twice.
func (m *merger) identity(r row) string {
	if m.twice[r.key] {
		return r.key + "\n" + r.text
	}
	return r.key
}

func (m *merger) index(rows []row) map[string]row {
	all := make(map[string]row, len(rows))
	for _, r := range rows {
		if r.key != "" {
			all[m.identity(r)] = r
		}
	}
	return all
}

// locals returns the local lines as they shall be, in their order, and finds what the base added.
func (m *merger) locals() []row {
	m.twice = map[string]bool{}
	for _, rows := range [][]row{m.old, m.base, m.local} {
		seen := make(map[string]bool, len(rows))
		for _, r := range rows {
			if r.key != "" && seen[r.key] {
				m.twice[r.key] = true
			}
			seen[r.key] = true
		}
	}
	old, base, local := m.index(m.old), m.index(m.base), m.index(m.local)
	m.added = map[string]bool{}
	for _, r := range m.base {
		id := m.identity(r)
		if _, here := local[id]; r.key == "" || here {
			continue
		}
		was, known := old[id]
		if !known {
			m.added[id] = true
		} else if was.text != r.text {
			m.note(r.key, "deleted, and changed in the base: stays deleted")
		}
	}
	var out []row
	for _, r := range m.local {
		if r.key == "" {
			out = append(out, r)
			continue
		}
		id := m.identity(r)
		o, inOld := old[id]
		b, inBase := base[id]
		switch {
		case inBase:
			fields := m.entry(r, o, b, inOld)
			if text := m.form.join(fields); text != r.text {
				r.fields, r.text = fields, text
			}
		case inOld && o.text == r.text:
			continue // the base dropped it
		case inOld:
			m.note(r.key, "changed, and gone from the base: kept")
		}
		out = append(out, r)
	}
	return out
}

// entry merges an entry that both sides have.
func (m *merger) entry(local, old, base row, inOld bool) []string {
	out := slices.Clone(local.fields)
	if local.text == base.text {
		return out
	}
	for i := range out {
		l, b := local.fields[i], base.fields[i]
		o := "\n" // what no field is
		if inOld {
			o = old.fields[i]
		}
		switch {
		case i == m.form.members || i == m.form.more:
			out[i] = mergeSet(strings.TrimPrefix(o, "\n"), b, l)
		case l == b || b == o:
		case (i == m.form.uid || i == m.form.gid) && (m.owns == nil || m.owns(l, i == m.form.gid)):
			m.note(local.key, m.form.field(i)+" is "+l+" here and "+b+" in the base: kept, files have it")
		case l == o:
			out[i] = b
		default:
			m.note(local.key, m.form.field(i)+" differs on both sides: the local one is kept")
		}
	}
	return out
}

// field names a field in a note; values may be secret and are never shown.
func (f Form) field(i int) string {
	switch {
	case i == f.uid:
		return "uid"
	case i == f.gid:
		return "gid"
	case f.fields == 0:
		return "the line"
	}
	return "field " + string(rune('1'+i))
}

// mergeSet merges lists of names, separated by commas: the local order, what the base added at the end.
func mergeSet(old, base, local string) string {
	o, b, l := strings.Split(old, ","), strings.Split(base, ","), strings.Split(local, ",")
	var out []string
	same := true
	for _, name := range l {
		if keep := !slices.Contains(o, name) || slices.Contains(b, name); keep && name != "" {
			out = append(out, name)
		} else if name != "" {
			same = false
		}
	}
	for _, name := range b {
		if name != "" && !slices.Contains(o, name) && !slices.Contains(out, name) {
			out, same = append(out, name), false
		}
	}
	if same {
		return local // as it was written
	}
	return strings.Join(out, ",")
}

// maxNotes bounds what is told of one file.
const maxNotes = 20

func (m *merger) note(key, text string) {
	switch {
	case len(m.notes) < maxNotes:
		m.notes = append(m.notes, key+": "+text)
	case len(m.notes) == maxNotes:
		m.notes = append(m.notes, "and more")
	}
}

func (r row) ended() bool { return strings.HasSuffix(r.end, "\n") }

// printRows joins lines. One that has lost its place at the end of a file gets an end.
func printRows(rows []row) []byte {
	var b bytes.Buffer
	for i, r := range rows {
		b.WriteString(r.text)
		b.WriteString(r.end)
		if i < len(rows)-1 && !r.ended() {
			b.WriteString("\n")
		}
	}
	return b.Bytes()
}
