package merge

import (
	"fmt"
	"slices"
	"strconv"
)

// place puts what the base added among the local lines: each behind the line that it follows in the base, or, where that is not
// here, at the end, before NIS entries that stand last.
func (m *merger) place(rows []row) []row {
	if len(m.added) == 0 {
		return rows
	}
	end := "\n"
	if len(rows) > 0 && rows[0].end != "" && rows[0].end[0] == '\r' {
		end = "\r\n"
	}
	here := map[string]bool{}
	for _, r := range rows {
		if r.key != "" {
			here[m.identity(r)] = true
		}
	}
	behind := map[string][]row{} // by the identity of the neighbour; "" is the end
	anchor, placed := "", map[string]bool{}
	for _, r := range m.base {
		if r.key == "" {
			continue
		}
		id := m.identity(r)
		switch {
		case here[id]:
			anchor = id
		case m.added[id] && !placed[id]: // a line that stands twice there is added once
			r.end = end
			behind[anchor] = append(behind[anchor], r)
			placed[id] = true
		}
	}
	last := len(rows)
	for last > 0 && rows[last-1].nis() {
		last--
	}
	var out []row
	for i, r := range rows {
		if i == last {
			out = append(out, behind[""]...)
		}
		out = append(out, r)
		if r.key != "" {
			id := m.identity(r)
			out = append(out, behind[id]...)
			delete(behind, id)
		}
	}
	if last == len(rows) {
		out = append(out, behind[""]...)
	}
	return out
}

// nis claims that the line stands for what the network information service knows; what comes behind it counts less.
func (r row) nis() bool {
	return r.key == "" && r.text != "" && (r.text[0] == '+' || r.text[0] == '-')
}

// clashes notes numbers that two names have since both sides added one: nobody can tell their files apart.
func (m *merger) clashes(rows []row) {
	if m.form.ids < 0 {
		return
	}
	type numbered struct {
		key       string
		from, to  uint64
		new, mine bool // added by the base, or here
	}
	theirs := map[string]bool{}
	for _, rows := range [][]row{m.old, m.base} {
		for _, r := range rows {
			theirs[r.key] = true
		}
	}
	all := map[string]numbered{}
	var order []string // by number, then by place
	for i, r := range rows {
		if r.key == "" {
			continue
		}
		from, err := strconv.ParseUint(r.fields[m.form.ids], 10, 32)
		if err != nil {
			continue
		}
		n := numbered{r.key, from, from, m.added[m.identity(r)], !theirs[r.key]}
		if m.form.span >= 0 {
			length, err := strconv.ParseUint(r.fields[m.form.span], 10, 32)
			if err != nil || length == 0 {
				continue
			}
			n.to = from + length - 1
		}
		at := fmt.Sprintf("%010d %010d", from, i)
		all[at], order = n, append(order, at)
	}
	slices.Sort(order)
	for i := 1; i < len(order); i++ {
		a, b := all[order[i-1]], all[order[i]]
		if b.from <= a.to && (a.new && b.mine || a.mine && b.new) {
			m.note(b.key, "has the number "+strconv.FormatUint(b.from, 10)+", as "+a.key+": one was added here, one in the base")
		}
	}
}
