package probe

import "fmt"

// Keep takes entries of the table that is on the disk now over into this one, which is to take its place together with what lies
// before byte from: all of those whose name this table has not itself. One that begins before that byte is refused. n is their number.
func (g *GPT) Keep(old *GPT, from int64) (n int, err error) {
	own := map[string]bool{}
	for i := range g.count() {
		if _, _, used := g.span(i); used {
			own[g.name(i)] = true
		}
	}
	for i := range old.count() {
		start, _, used := old.span(i)
		if !used || own[old.name(i)] {
			continue
		}
		if int64(start)*old.sector < from {
			return 0, fmt.Errorf("%w: partition %d (%q) begins at byte %d, and what is written reaches to byte %d", ErrNoRoom, i+1, old.name(i), int64(start)*old.sector, from)
		}
		slot := -1
		for k := range g.count() {
			if _, _, used := g.span(k); !used {
				slot = k
				break
			}
		}
		if slot < 0 || old.entrySize() != g.entrySize() {
			return 0, fmt.Errorf("%w: no entry is left for partition %d (%q)", ErrNoRoom, i+1, old.name(i))
		}
		copy(g.entry(slot), old.entry(i))
		n++
	}
	le.PutUint64(g.header[48:], g.end())
	return n, g.check()
}

func (g *GPT) name(n int) string { return gptName(g.entry(n)[gptNameOff:gptMinEntry]) }
