package merge

import (
	"bytes"
	"context"
	"errors"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
	"veneer/overlay/mount/mounttest"
)

// A conflict stays open from base to base until somebody resolves it, and its side is that of the newest base.
func TestAConflictThatNobodyResolved(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	cases := []struct{ name, v3, edit, want, check string }{
		{"the base stays", ``, ``, "a conflict > a.new\nb conflict > b.new\nd type-clash > d.new\n", `test "$(cat a)$(cat a.new)" = 92; test ! -e b`},
		{"the base changes again", `echo 3 >a; echo 3 >b; echo 3 >d/x`, ``, "a conflict > a.new\nb conflict > b.new\nd type-clash > d.new\n",
			`test "$(cat a)$(cat a.new)$(cat b.new)$(cat d.new/x)" = 9333`},
		{"the side was edited", `echo 3 >a`, `echo mine >a.new; echo mine >d.new/x`, "a conflict > a.new2\nb conflict > b.new\nd type-clash > d.new\n",
			`test "$(cat a)$(cat a.new)$(cat a.new2)$(cat d.new/x)" = 9mine3mine`},
		{"the base takes the name of the side", `echo 3 >a.new; echo 3 >b.new`, `echo mine >b.new`, "a.new pruned\na conflict > a.new2\nb deleted-local\nb.new conflict > b.new.new\nd type-clash > d.new\n",
			`test "$(cat a)$(cat a.new)$(cat a.new2)$(cat b.new)$(cat b.new.new)" = 932mine3`},
		{"the side was removed", ``, `rm -r a.new b.new d.new`, "a kept-local\nb deleted-local\nd kept-local\n", `test "$(cat a)" = 9`},
		{"the side was taken", ``, `mv a.new a; mv b.new b; rm d; cp -r d.new d; rm -r d.new`, "a pruned\nb pruned\nd/x pruned\nd pruned\n", `test "$(cat a)$(cat b)$(cat d/x)" = 222`},
		{"the base took what is here", `echo 9 >a; rm b; rm -r d; echo 9 >d`, ``, "a.new pruned\na pruned\nb.new pruned\nb pruned\nd.new pruned\nd pruned\n", `test "$(cat a)$(cat d)" = 99; test ! -e a.new; test ! -e d.new`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.sh("v1", `echo 1 >a; echo 1 >b; echo 1 >d`)
			w.sh("v2", `echo 2 >a; echo 2 >b; mkdir d; echo 2 >d/x`)
			w.sh(".", "cp -a v2 v3; chmod --reference v1 fs")
			w.sh("v3", c.v3)
			w.with([]string{"v1"}, `echo 9 >a; rm b; echo 9 >d`)
			r, err := Run(t.Context(), w.spec(w.index("v1"), "v2"))
			must(t, err)
			if want := "a conflict > a.new\nb conflict > b.new\nd type-clash > d.new\n"; verdicts(r) != want {
				t.Fatalf("first merge: %s", verdicts(r))
			}
			w.with([]string{"v2"}, c.edit)
			s := w.spec(w.index("v2"), "v3")
			s.To = "v3"
			r, err = Run(t.Context(), s)
			must(t, err)
			got := strings.ReplaceAll(strings.ReplaceAll(verdicts(r), "a.new kept-local\n", ""), "d conflict > d.new\n", "d type-clash > d.new\n")
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("second merge (-want +got):\n%s%s", diff, r.Encode())
			}
			w.with([]string{"v3"}, c.check)
		})
	}
}

// The lowers of a new base are several, and may hold whiteouts and opaque directories.
func TestTheNewBaseIsAStack(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	w := newWorld(t)
	w.sh("v1", `echo 1 >a; echo 1 >b; mkdir d e; echo 1 >d/x; echo 1 >d/y; echo 1 >e/x`)
	w.sh(".", `cp -a v1/. v2/; mkdir top; chmod --reference v1 fs`)
	w.sh("v2", `echo 2 >a`)
	w.sh("top", `echo 3 >a; mknod b c 0 0; mkdir d e; setfattr -n trusted.overlay.opaque -v y d; echo 3 >d/z; echo 3 >e/y`)
	w.with([]string{"v1"}, `touch a b d/x e/x; echo 9 >d/y; echo 9 >e/y`)
	spec := w.spec(w.index("v1"), "v2", "none", "top")
	spec.Lowers = append(spec.Lowers, w.path("not-there"))
	r, err := Run(t.Context(), spec)
	must(t, err)
	want := "a took-new\nb pruned\nd/x pruned\nd/y kept-local\ne/x pruned\ne/y conflict > e/y.new\n"
	if diff := cmp.Diff(want, verdicts(r)); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
	w.with([]string{"v2", "none", "top"}, `test "$(cat a)" = 3; test ! -e b; test "$(ls d | tr '\n' ' ')" = "y z "; test "$(ls e | tr '\n' ' ')" = "x y y.new "`)

	// The index of a stack is that of what it shows.
	var mounted, stacked bytes.Buffer
	w.sh(".", "rm -rf fs; mkdir fs; chmod --reference top fs; rm -rf work; mkdir work; rm -rf seen; mkdir seen")
	w.with([]string{"v2", "none", "top"}, "cp -a . ../seen/")
	b, err := Scan(w.path("seen"))
	must(t, err)
	must(t, b.Write(&mounted))
	b, err = Scan(w.path("v2"), w.path("none"), w.path("top"))
	must(t, err)
	must(t, b.Write(&stacked))
	if diff := cmp.Diff(mounted.String(), stacked.String()); diff != "" {
		t.Errorf("index of a stack (-mounted +stacked):\n%s", diff)
	}
}

func TestAnUpperThatIsTiedToItsBaseIsRefused(t *testing.T) {
	for _, attr := range []string{"redirect", "metacopy"} {
		w := newWorld(t)
		w.sh("fs", "mkdir -p a/b && setfattr -n trusted.overlay."+attr+" -v x a/b; echo 1 >0")
		w.sh("v2", "echo 1 >0")
		before := dump(t, w.path("fs"))
		if _, err := Run(t.Context(), w.spec(w.index("v1"), "v2")); !errors.Is(err, ErrMarks) || !strings.Contains(err.Error(), "a/b") {
			t.Errorf("%s: Run = %v, want ErrMarks", attr, err)
		}
		if dump(t, w.path("fs")) != before {
			t.Errorf("%s: the upper has changed", attr)
		}
	}
}

func TestWhatLiesOnAnotherFileSystemIsRefused(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	w := newWorld(t)
	w.sh("fs", "mkdir a; echo 1 >x")
	must(t, unix.Mount(w.path("v1"), w.path("fs/a"), "", unix.MS_BIND, ""))
	_, err := Run(t.Context(), w.spec(w.index("v1"), "v2"))
	if !errors.Is(err, entry.ErrOtherFileSystem) {
		t.Errorf("Run = %v, want ErrOtherFileSystem", err)
	}
	if _, err = Sweep(t.Context(), w.path("fs"), nil, func(string) bool { return false }); !errors.Is(err, entry.ErrOtherFileSystem) {
		t.Errorf("Sweep = %v, want ErrOtherFileSystem", err)
	}
	must(t, unix.Unmount(w.path("fs/a"), 0))
}

// A plan that was left is only taken up for the same bases, and an entry that is no longer as it was planned on is left alone.
func TestAPlanThatWasLeft(t *testing.T) {
	w := newWorld(t)
	w.sh("v1", "echo 1 >a; echo 1 >b")
	w.sh("v2", "echo 2 >a; echo 2 >b")
	w.sh(".", "cp -a v1/. fs/")
	s := w.spec(w.index("v1"), "v2")
	cut, err := stopped(s, 8)
	must(t, err)
	if !cut {
		t.Fatal("no eighth change")
	}
	w.sh("fs", "echo local >b")
	r, err := Run(t.Context(), s)
	must(t, err)
	if got := dump(t, w.path("fs")); !strings.Contains(got, "\nb f") || strings.Contains(got, "\na f") || verdicts(r) != "a took-new\nb took-new\n" {
		t.Errorf("an entry that was changed since: %s%s", verdicts(r), got)
	}
	s.To = "v3"
	r, err = Run(t.Context(), s)
	must(t, err)
	if verdicts(r) != "b conflict > b.new\n" {
		t.Errorf("a merge for other bases: %s", verdicts(r))
	}
}

func TestAMergeCanBeCancelled(t *testing.T) {
	w := newWorld(t)
	w.sh("fs", "echo 1 >a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, w.spec(w.index("v1"), "v2")); !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
}

func TestASweepKeepsWhatIsAllowed(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	w := newWorld(t)
	w.sh("v1", `mkdir -p ssh d/e net; echo 1 >ssh/config; echo 1 >d/e/f; echo 1 >a; echo 1 >net/x; chmod 711 d`)
	w.with([]string{"v1"}, `rm -r ssh; mkdir ssh; echo 9 >ssh/host_key; rm a; echo 9 >d/e/f; echo 9 >d/e/keep; chmod 700 d; mkdir -p x/y; ln -s / x/y/l; mkfifo x/p; rm -r net; echo 9 >i; mkdir im; echo 9 >im/f`)
	w.sh("fs", "chattr +i i im/f; chattr +i im")
	w.sh(".", "chattr -i fs/im fs/i fs/im/f; cp -a fs saved; chattr +i fs/i fs/im/f fs/im")
	keeps := func(p string) bool {
		ok, _ := path.Match("*/host_key", p)
		return ok || p == "d/e/keep"
	}
	got, err := Sweep(t.Context(), w.path("fs"), []string{w.path("v1")}, keeps)
	must(t, err)
	if got.Removed != len(got.Paths) || got.Removed != 10 {
		t.Errorf("Sweep removed %d: %q", got.Removed, got.Paths)
	}
	want := dump(t, w.path("fs"))
	w.with([]string{"v1"}, `test "$(cat ssh/config)$(cat ssh/host_key)$(cat a)$(cat d/e/f)$(cat d/e/keep)$(cat net/x)" = 191191; test "$(stat -c %a d)" = 711; test ! -e x; test ! -e i; test ! -e im`)
	k := 1
	for ; ; k++ {
		w.sh(".", "rm -rf fs && cp -a saved fs")
		n := 0
		_, err := sweep(t.Context(), w.path("fs"), []string{w.path("v1")}, keeps, func(string) error {
			if n++; n == k {
				return errStop
			}
			return nil
		})
		if err == nil {
			break
		}
		if !errors.Is(err, errStop) {
			t.Fatal(err)
		}
		_, err = Sweep(t.Context(), w.path("fs"), []string{w.path("v1")}, keeps)
		must(t, err)
		if diff := cmp.Diff(want, dump(t, w.path("fs"))); diff != "" {
			t.Fatalf("stopped before change %d (-undisturbed +got):\n%s", k, diff)
		}
	}
	t.Logf("stopped before each of %d changes", k-1)
}

func TestTheCopiesOfFilesByEntry(t *testing.T) {
	w := newWorld(t)
	w.sh("v1", `mkdir -p etc/a etc/b etc/c; echo 1 >etc/passwd; echo 1 >etc/a/x.conf; echo 1 >etc/b/y.conf; echo 1 >etc/b/y.txt; ln -s / etc/a/l.conf; mkdir etc/c/d.conf; echo 1 >shadow`)
	w.sh("v2", `mkdir -p etc; echo 2 >etc/passwd`)
	s := Spec{Path: "/", Lowers: w.paths([]string{"v1", "v2"}), Entries: []string{"etc/*/*.conf", "shadow/x", "gone"}}
	must(t, s.SaveEntries(w.path("copies")))
	w.sh("copies", `test "$(find . -type f | sort | tr '\n' ' ')" = "./etc/a/x.conf ./etc/b/y.conf ./etc/passwd "; test "$(cat etc/passwd)" = 2`)
	s.OldEntries = w.path("copies")
	if text, known, err := s.oldEntries("etc/b/y.conf"); err != nil || !known || string(text) != "1\n" {
		t.Errorf("oldEntries = %q, %v, %v", text, known, err)
	}
	if _, known, err := s.oldEntries("etc/b/z.conf"); err != nil || known {
		t.Errorf("oldEntries of a file that was not there: %v, %v", known, err)
	}
}
