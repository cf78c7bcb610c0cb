package merge

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
	"veneer/overlay/mount/mounttest"
)

// Random edits on random bases, through a real overlay: nothing local is lost, nothing new is hidden, and a merge that was stopped
// anywhere ends as one that was not.
func TestRandomEditsOfRandomBases(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	const rounds = 10
	stops := 0
	for seed := range rounds {
		w := newWorld(t)
		r := rand.New(rand.NewPCG(uint64(seed), 5))
		w.sh("v1", edits(r, 25))
		w.sh(".", "rm -rf v2; cp -a v1 v2; chmod --reference v1 fs")
		w.sh("v2", edits(r, 8))
		w.with([]string{"v1"}, edits(r, 8))
		w.sh(".", "mkdir v1m; cp -a fs saved")
		w.with([]string{"v1"}, "cp -a . ../v1m/")
		w.sh(".", "rm -rf fs; cp -a saved fs") // reading has changed nothing, but be sure
		old, fresh, local := snapshot(t, w.path("v1")), snapshot(t, w.path("v2")), snapshot(t, w.path("v1m"))
		s := w.spec(w.index("v1"), "v2")
		report, err := Run(t.Context(), s)
		must(t, err)
		want := dump(t, w.path("fs"))
		w.sh(".", "mkdir result")
		w.with([]string{"v2"}, "cp -a . ../result/")
		got := snapshot(t, w.path("result"))
		for path := range union3(old, fresh, local) {
			o, n, l, g := old[path], fresh[path], local[path], got[path]
			switch {
			case l == n && g != n && !below(path, got, local, fresh):
				t.Errorf("seed %d: %s: both sides have %q, the merge %q", seed, path, n, g)
			case l != o && l != n && n == o && g != l && l != "":
				t.Errorf("seed %d: %s: the local %q is lost: %q", seed, path, l, g)
			case l == o && l != "d" && n != o && n != "" && g != n && parentsSame(path, old, local, fresh):
				t.Errorf("seed %d: %s: the new %q does not show: %q", seed, path, n, g)
			}
		}
		if t.Failed() {
			t.Fatalf("verdicts:\n%s\nold %v\nnew %v\nlocal %v", verdicts(report), old, fresh, local)
		}
		must(t, forget(w.path("stamp")))
		again := w.spec(w.index("v2"), "v2")
		_, err = Run(t.Context(), again)
		must(t, err)
		must(t, forget(w.path("stamp")))
		if now := dump(t, w.path("fs")); now != want {
			t.Fatalf("seed %d: merged again:\n%s\nfirst:\n%s\n%s", seed, now, want, verdicts(report))
		}
		for k := 1 + seed%5; ; k += 5 {
			w.sh(".", "rm -rf fs && cp -a saved fs")
			cut, err := stopped(s, k)
			must(t, err)
			if !cut {
				break
			}
			stops++
			after, err := Run(t.Context(), s)
			must(t, err)
			must(t, forget(w.path("stamp")))
			if now := dump(t, w.path("fs")); now != want || verdicts(after) != verdicts(report) {
				t.Fatalf("seed %d, stopped before change %d:\n%s\nwant:\n%s", seed, k, now, want)
			}
		}
	}
	t.Logf("%d rounds, %d stops", rounds, stops)
}

// edits is a script of random changes to a small tree.
func edits(r *rand.Rand, n int) string {
	var b strings.Builder
	b.WriteString("umask 022\n")
	name := func() string {
		p := string(rune('a' + r.IntN(3)))
		for range r.IntN(3) {
			p += "/" + string(rune('a'+r.IntN(3)))
		}
		return p
	}
	for range n {
		p, v := name(), r.IntN(3)
		switch r.IntN(8) {
		case 0, 1, 2:
			fmt.Fprintf(&b, "mkdir -p $(dirname %[1]s) 2>/dev/null && [ ! -d %[1]s ] && echo %[2]d >%[1]s || true\n", p, v)
		case 3:
			fmt.Fprintf(&b, "rm -rf %s\n", p)
		case 4:
			fmt.Fprintf(&b, "mkdir -p %s 2>/dev/null || true\n", p)
		case 5:
			fmt.Fprintf(&b, "rm -rf %[1]s; mkdir -p $(dirname %[1]s) 2>/dev/null && ln -s %[2]d %[1]s || true\n", p, v)
		case 6:
			fmt.Fprintf(&b, "[ -e %[1]s ] && [ ! -h %[1]s ] && chmod 7%[2]d5 %[1]s || true\n", p, v+4)
		case 7:
			fmt.Fprintf(&b, "[ -d %[1]s ] && rm -rf %[1]s && mkdir %[1]s && echo %[2]d >%[1]s/c || true\n", p, v)
		}
	}
	return b.String()
}

// snapshot is each path of a tree with what it is.
func snapshot(t *testing.T, root string) map[string]string {
	t.Helper()
	fd, err := entry.OpenRoot(root)
	must(t, err)
	defer unix.Close(fd)
	all := map[string]string{}
	must(t, entry.Walk(fd, func(d int, name, path string, st entry.Stat) (bool, error) {
		n, err := look(d, name)
		must(t, err)
		text := ""
		if n.kind == file {
			b, err := n.read(10)
			must(t, err)
			text = strings.TrimSpace(string(b))
		}
		if n.kind == dir {
			all[path] = "d"
			return true, nil
		}
		all[path] = fmt.Sprintf("%c%s%s.%o", n.kind, text, n.Target, n.Mode&0o777)
		return true, nil
	}))
	return all
}

func union3(maps ...map[string]string) map[string]bool {
	all := map[string]bool{}
	for _, m := range maps {
		for p := range m {
			all[p] = true
		}
	}
	return all
}

// below claims that a path is as it must be because something above it is of another type on one side.
func below(path string, sides ...map[string]string) bool { return !parentsSame(path, sides...) }

func parentsSame(path string, sides ...map[string]string) bool {
	for up, _ := entry.Split(path); up != ""; up, _ = entry.Split(up) {
		for _, s := range sides {
			if s[up] != "d" {
				return false
			}
		}
	}
	return true
}
