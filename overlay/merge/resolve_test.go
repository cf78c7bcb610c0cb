package merge

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"veneer/overlay/mount/mounttest"
)

// conflicting is a world whose merge has left four conflicts; of two the local side is immutable or append-only.
func conflicting(t *testing.T) (*world, Resolver) {
	t.Helper()
	w := newWorld(t)
	w.sh("v1", "for f in a fixed log dir/x z; do mkdir -p $(dirname $f); echo 1 >$f; done")
	w.sh(".", `cp -a v1/. v2/; chmod --reference v1 fs; for f in a fixed log dir/x z; do echo 2 >v2/$f; done`)
	w.with([]string{"v1"}, "for f in a fixed log dir/x z; do echo 9 >$f; done; mkdir mine; echo 9 >mine/in; echo 9 >other")
	_, err := Run(t.Context(), w.spec(w.index("v1"), "v2"))
	must(t, err)
	w.sh("fs", "chattr +i fixed mine/in; chattr +a log")
	return w, Resolver{Merged: w.path("merged"), Upper: w.path("fs"), Lowers: w.paths([]string{"v2"})}
}

// open lists the conflicts that nobody has resolved.
func (w *world) open() string {
	w.t.Helper()
	r, err := Local(context.Background(), Spec{Path: "/etc", Upper: w.path("fs"), Lowers: w.paths([]string{"v2"})})
	must(w.t, err)
	var all []string
	for _, i := range r.Items {
		if i.Verdict.Open() {
			all = append(all, i.Path+" > "+i.Side)
		}
	}
	return strings.Join(all, ", ")
}

const allOpen = "a > a.new, dir/x > dir/x.new, fixed > fixed.new, log > log.new, z > z.new"

func TestAConflictStaysOpenWhereTheLocalSideIsImmutable(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	w, r := conflicting(t)
	before := dump(t, w.path("fs"))
	w.mounted([]string{"v2"}, func() {
		for _, name := range []string{"fixed", "log"} {
			for what, do := range map[string]func(string) ([]Change, error){"Accept": r.Accept, "Reset": r.Reset} {
				done, err := do(name)
				if !errors.Is(err, ErrFixed) || !strings.HasPrefix(err.Error(), name+": ") || len(done) != 0 {
					t.Errorf("%s %s = %v, %v; want ErrFixed that names it", what, name, done, err)
				}
			}
		}
	})
	if diff := cmp.Diff(before, dump(t, w.path("fs"))); diff != "" {
		t.Errorf("the upper (-before +after):\n%s", diff)
	}
	if got := w.open(); got != allOpen {
		t.Errorf("open: %s, want %s", got, allOpen)
	}
	w.sh("fs", "chattr -i fixed; chattr -a log")
	w.mounted([]string{"v2"}, func() {
		for _, name := range []string{"fixed", "log"} {
			if _, err := r.Accept(name); err != nil {
				t.Error(err)
			}
		}
	})
	if got, want := w.open(), "a > a.new, dir/x > dir/x.new, z > z.new"; got != want {
		t.Errorf("open, once it is no longer immutable: %s, want %s", got, want)
	}
}

func TestAResetOfAllGoesOnBehindWhatIsImmutable(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	w, r := conflicting(t)
	w.mounted([]string{"v2"}, func() {
		r.DryRun = true
		would, err := r.Reset(".")
		if !errors.Is(err, ErrFixed) {
			t.Errorf("dry run: %v, want ErrFixed", err)
		}
		r.DryRun = false
		done, err := r.Reset(".")
		if diff := cmp.Diff(would, done); diff != "" {
			t.Errorf("changes (-dry run +done):\n%s", diff)
		}
		want := "fixed: " + ErrFixed.Error() + "\nlog: " + ErrFixed.Error() + "\nmine/in: " + ErrFixed.Error()
		if err == nil || err.Error() != want {
			t.Errorf("Reset = %v\nwant %s", err, want)
		}
	})
	if got, want := w.open(), "fixed > fixed.new, log > log.new"; got != want {
		t.Errorf("open: %s, want %s", got, want)
	}
	w.with([]string{"v2"}, `test "$(cat a)$(cat fixed)$(cat log)$(cat dir/x)$(cat z)$(cat mine/in)" = 299229; test ! -e other; test ! -e a.new; test "$(cat fixed.new)$(cat log.new)" = 22`)
}

// The side of a name that is nearly too long is cut, and sorts before or behind it.
func TestTheSideOfALongNameStaysWhereItsResetFails(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	long := strings.Repeat("x", 250) + "é\xff"
	w := newWorld(t)
	for _, f := range []struct{ dir, text string }{{"v1", "1"}, {"v2", "2"}, {"fs", "9"}} {
		must(t, os.WriteFile(w.path(f.dir)+"/"+long, []byte(f.text), 0o644))
	}
	_, err := Run(t.Context(), w.spec(w.index("v1"), "v2"))
	must(t, err)
	w.sh("fs", "find . -name 'x*' ! -name '*.new' -exec chattr +i {} +")
	open := w.open()
	r := Resolver{Merged: w.path("merged"), Upper: w.path("fs"), Lowers: w.paths([]string{"v2"})}
	w.mounted([]string{"v2"}, func() {
		if _, err := r.Reset("."); !errors.Is(err, ErrFixed) || !strings.Contains(err.Error(), `é\xff"`) {
			t.Errorf("Reset = %v", err)
		}
	})
	if got := w.open(); open == "" || got != open {
		t.Errorf("open: %q, before %q", got, open)
	}
}
