package merge

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Every combination of types, and of differences where types are equal.
func TestEveryDecision(t *testing.T) {
	var b strings.Builder
	b.WriteString("# upper, old base, new base; changed here, changed in the base, still apart -> verdict, action\n")
	var seen int
	each(func(s state) {
		seen++
		fmt.Fprintf(&b, "%c %c %c  %-3s %-3s %-3s", s.upper, s.old, s.base, show(s.local), show(s.fresh), show(s.apart))
		if s.upper == dir {
			fmt.Fprintf(&b, " %s", map[bool]string{true: "full", false: "empty"}[s.rest])
		}
		d := decide(s)
		fmt.Fprintf(&b, " -> %s", d.verdict)
		if d.op != leave {
			fmt.Fprintf(&b, " %s", d.op)
		}
		if d.op == take {
			fmt.Fprintf(&b, " %s", show(d.take))
		}
		if d.side {
			b.WriteString(" +side")
		}
		if d.note != "" {
			fmt.Fprintf(&b, " (%s)", d.note)
		}
		b.WriteString("\n")

		// What holds for all of them.
		untouched := s.upper == s.old && s.local == 0
		switch {
		case d.side && d.verdict != Conflict && d.verdict != TypeClash, d.verdict.Open() && d.op != leave:
			t.Errorf("%+v: %+v: a side belongs to a conflict, and a conflict changes nothing", s, d)
		case d.op == remove && s.rest:
			t.Errorf("%+v: %+v: something is in it", s, d)
		case d.op == remove && !untouched && s.upper != whiteout && !(s.upper == s.base && s.apart&^(s.fresh&^s.local) == 0):
			t.Errorf("%+v: %+v: something local is lost", s, d)
		case d.op == take && (d.take == 0 || d.take&s.local != 0):
			t.Errorf("%+v: %+v: takes nothing, or what is local", s, d)
		case s.base == s.old && s.fresh == 0 && d.verdict.Open():
			t.Errorf("%+v: %+v: the base did not change", s, d)
		}
	})
	const golden = "testdata/decisions.golden"
	if *update {
		must(t, os.WriteFile(golden, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("decisions (-golden +got); look at them and run with -update:\n%s", diff)
	}
	t.Logf("%d combinations", seen)
}

// each calls do for every state that there can be; content and mode stand for all four kinds of difference.
func each(do func(state)) {
	sets := []bits{0, content, mode, content | mode}
	for _, u := range []kind{whiteout, file, dir, link, 'c'} {
		for _, o := range []kind{absent, unknown, file, dir, link, 'c'} {
			for _, n := range []kind{absent, file, dir, link, 'c'} {
				for _, local := range sets {
					for _, fresh := range sets {
						for _, apart := range sets {
							s := state{old: o, base: n, upper: u, local: local, fresh: fresh, apart: apart}
							if !possible(s) {
								continue
							}
							do(s)
							if u == dir {
								s.rest = true
								do(s)
							}
						}
					}
				}
			}
		}
	}
}

func possible(s state) bool {
	if s.base == absent && s.fresh != 0 || s.upper != s.old && s.local != 0 || s.base != s.old && s.fresh != 0 || s.upper != s.base && s.apart != 0 {
		return false
	}
	for _, k := range []struct {
		kind kind
		no   bits
	}{{dir, content}, {link, mode}} {
		if (s.upper == k.kind || s.old == k.kind || s.base == k.kind) && (s.local|s.fresh|s.apart)&k.no != 0 {
			return false
		}
	}
	for _, bit := range []bits{content, mode} {
		l, f, a := s.local&bit != 0, s.fresh&bit != 0, s.apart&bit != 0
		if s.upper == s.old && s.base == s.old && (!l && !f && a || l != f && !a) {
			return false // equal to the same is equal
		}
	}
	return true
}

func show(b bits) string {
	s := ""
	for i, c := range "cmox" {
		if b&(1<<i) != 0 {
			s += string(c)
		}
	}
	if s == "" {
		return "-"
	}
	return s
}
