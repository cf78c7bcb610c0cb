package merge

import (
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
		key      string
		from, to uint64
		new      bool
	}
	old := map[string]bool{}
	for _, r := range m.old {
		old[r.key] = true
	}
	var all []numbered
	for _, r := range rows {
		if r.key == "" {
			continue
		}
		from, err := strconv.ParseUint(r.fields[m.form.ids], 10, 32)
		if err != nil {
			continue
		}
		n := numbered{r.key, from, from, m.added[m.identity(r)]}
		if m.form.span >= 0 {
			length, err := strconv.ParseUint(r.fields[m.form.span], 10, 32)
			if err != nil || length == 0 {
				continue
			}
			n.to = from + length - 1
		}
		all = append(all, n)
	}
	slices.SortStableFunc(all, func(a, b numbered) int {
		if a.from != b.from {
			return btoi(a.from > b.from)*2 - 1
		}
		return 0
	})
	for i := 1; i < len(all); i++ {
		a, b := all[i-1], all[i]
		if b.from <= a.to && a.key != b.key && (a.new || b.new) && a.new != b.new {
			m.note(b.key, "has the number "+strconv.FormatUint(b.from, 10)+", as "+a.key+": one was added here, one in the base")
		}
	}
}
