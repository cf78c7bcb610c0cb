package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAWriteLeavesTheFormerFileOrTheNewOne(t *testing.T) {
	for k := 1; ; k++ {
		d := open(t, t.TempDir())
		must(t, d.write("f", []byte("former")))
		n := 0
		d.stop = func(string) error {
			if n++; n >= k {
				return errStopped
			}
			return nil
		}
		err := d.write("f", []byte("new"))
		d.stop = nil
		text, rerr := d.read("f", 100)
		must(t, rerr)
		if got := string(text); got != "former" && got != "new" || err == nil && got != "new" {
			t.Errorf("stopped before change %d: the file holds %q, error %v", k, got, err)
		}
		if names, _ := d.names(".", 10); len(names) != 1 {
			t.Errorf("stopped before change %d: %q is listed", k, names)
		}
		must(t, d.write("f", []byte("again")))
		if err == nil {
			t.Logf("%d instants", k-1)
			return
		}
	}
}

func TestJunkIsReportedAndLeftAlone(t *testing.T) {
	needsRoot(t)
	root := t.TempDir()
	d := populate(t, root)
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, Request{Format: 1, ID: newID(now), Kind: Reset, Scope: "all"}.Encode(), 0o600))
	id := func(n int) string { return newID(now.Add(time.Duration(n) * time.Second)) }
	put(t, root, "requests/readme.txt x", "requests/"+id(1)+".json -> "+outside, "requests/"+id(2)+".json fifo", "requests/"+id(3)+".json/",
		"requests/"+id(4)+".json {", "requests/.new-"+id(5)+".json torn", "journal/x.json y", "journal/1.json fifo", "journal/01.json z", "aside/junk/", "aside/"+id(6)+"/aside.json fifo",
		"snapshots/s/snapshot.json fifo", "data/not--escaped x")
	must(t, os.WriteFile(filepath.Join(root, "requests", id(7)+".json"), make([]byte, maxRequest+1), 0o600))
	must(t, unix.Mknod(filepath.Join(root, "requests", id(8)+".json"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 200))))
	must(t, os.WriteFile(filepath.Join(root, "requests", id(9)+".json"), Request{Format: 1, ID: id(10), Kind: Reset, Scope: "all"}.Encode(), 0o600))
	before := list(t, root, "ballast", "journal", "trash")
	requests, problems, err := d.Requests()
	must(t, err)
	if len(requests) != 0 || len(problems) != 8 {
		t.Errorf("Requests = %v and %d problems, want none and 8:\n%v", requests, len(problems), problems)
	}
	problemsOfRequests := problems
	for _, p := range problems {
		if len(p.String()) > 600 || strings.ContainsAny(p.String(), "\n\x00") {
			t.Errorf("a problem is no line: %q", p)
		}
	}
	if _, problems, err = d.Snapshots(); err != nil || len(problems) != 1 {
		t.Errorf("Snapshots: problems %v, %v", problems, err)
	}
	if _, problems, err = d.Journal(); err != nil || len(problems) != 3 {
		t.Errorf("Journal: problems %v, %v", problems, err)
	}
	if _, junk, err := d.Places("1"); err != nil || len(junk) != 1 {
		t.Errorf("Places: junk %q, %v", junk, err)
	}
	out, err := d.CarryOut(context.Background(), orders())
	must(t, err)
	if len(out) != len(problemsOfRequests) {
		t.Errorf("CarryOut = %v, want that each is refused", out)
	}
	for _, o := range out {
		if o.Outcome != Refused || o.Request.Kind != Unreadable || o.Err == nil {
			t.Errorf("CarryOut = %+v, want it refused", o)
		}
	}
	// They were somebody's orders, perhaps: said, noted, and out of the way. All the rest stays.
	before = slices.DeleteFunc(before, func(l string) bool { return strings.Contains(l, "requests/") && !strings.Contains(l, ".new-") })
	if after := list(t, root, "ballast", "journal", "trash"); strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Error("what was not understood was touched")
	}
}

func TestALinkInThePlaceOfADirectoryLeadsNowhere(t *testing.T) {
	needsRoot(t)
	for _, dir := range []string{"requests", "journal", "aside", "etc", "data", "snapshots", "trash", "ballast"} {
		t.Run(dir, func(t *testing.T) {
			root, outside := t.TempDir(), t.TempDir()
			d := populate(t, root)
			put(t, outside, "precious x", "1/fs/precious x", "var/precious x")
			must(t, os.RemoveAll(filepath.Join(root, dir)))
			must(t, os.Symlink(outside, filepath.Join(root, dir)))
			before := list(t, outside)
			d.File(Request{Kind: Reset, Scope: ScopeAll, Secure: true}, now)
			d.CarryOut(context.Background(), orders())
			d.EmptyTrash(context.Background(), 0, nil)
			d.Bless("b", "1", now)
			if after := list(t, outside); strings.Join(before, "\n") != strings.Join(after, "\n") {
				t.Errorf("behind the link: %q became %q", before, after)
			}
		})
	}
}

func TestOrigin(t *testing.T) {
	owner := Owner{Product: "kiosk", Machine: "m1"}
	origin := func(d *Dir, o Owner) Origin {
		got, why, err := d.Origin(o)
		must(t, err)
		if got == Foreign && why == "" {
			t.Error("foreign, and nobody says why")
		}
		return got
	}
	root := t.TempDir()
	d := open(t, root)
	if got := origin(d, owner); got != Fresh {
		t.Errorf("an empty directory is %q", got)
	}
	n := 0
	d.stop = func(string) error {
		if n++; n > 12 {
			return errStopped
		}
		return nil
	}
	if err := d.Adopt(owner); !errors.Is(err, errStopped) {
		t.Fatal(err)
	}
	d.stop = nil
	if got := origin(d, owner); got != Fresh {
		t.Errorf("a state that was not finished is %q", got)
	}
	must(t, d.Adopt(owner))
	for o, want := range map[Owner]Origin{owner: Own, {"kiosk", ""}: Own, {"kiosk", "m2"}: Foreign, {"till", "m1"}: Foreign} {
		if got := origin(d, o); got != want {
			t.Errorf("for %+v it is %q, want %q", o, got, want)
		}
	}
	must(t, os.WriteFile(filepath.Join(root, "format"), []byte("{\n  \"format\": 2,\n  \"new\": true\n}\n"), 0o600))
	if _, _, err := d.Origin(owner); !errors.Is(err, ErrNewer) {
		t.Errorf("a later format: %v, want ErrNewer", err)
	}
	must(t, os.Remove(filepath.Join(root, "format")))
	put(t, root, "etc/1/fs/x y")
	if got := origin(d, owner); got != Foreign {
		t.Errorf("uppers without a mark are %q", got)
	}
}

func TestStampsAreWrittenAndCompared(t *testing.T) {
	d := open(t, t.TempDir())
	must(t, d.mkdir("etc"))
	want := Stamp{Product: "p", Base: "b", Lowers: []string{"b"}}
	if _, v, err := d.Against("etc/1", want); v != Missing || err != nil {
		t.Errorf("without a stamp: %q, %v", v, err)
	}
	must(t, d.WriteStamp("etc/1", want))
	if _, v, err := d.Against("etc/1", want); v != Same || err != nil {
		t.Errorf("with its stamp: %q, %v", v, err)
	}
	must(t, os.WriteFile(filepath.Join(d.Name(), "etc/1/stamp/stamp.json"), []byte("torn"), 0o600))
	if _, v, err := d.Against("etc/1", want); v != Missing || err == nil {
		t.Errorf("with a torn stamp: %q, %v", v, err)
	}
}

// TestAnOrderFromOutsideIsTakenOnce is the table of Dir.Ask.
func TestAnOrderFromOutsideIsTakenOnce(t *testing.T) {
	needsRoot(t)
	d := populate(t, t.TempDir())
	boot := 0
	step := func(word string, want bool) {
		t.Helper()
		boot++
		got, err := d.Ask("command line", word, Request{Kind: Reset, Scope: ScopeEtc}, now)
		must(t, err)
		if got != want {
			t.Errorf("boot %d, with %q: Ask = %v, want %v", boot, word, got, want)
		}
		out, err := d.CarryOut(context.Background(), orders())
		must(t, err)
		if (len(out) == 1) != want {
			t.Errorf("boot %d, with %q: %d requests were carried out: %+v", boot, word, len(out), out)
		}
	}
	step("", false)
	step("etc", true)
	for range 3 {
		step("etc", false)
	}
	step("etc@2", true)
	step("etc@2", false)
	step("", false)
	step("etc@2", true)
	// However much happens afterwards, and however much of it the journal forgets.
	for range keptEntries + 5 {
		_, err := d.File(Request{Kind: Reset, Scope: "/nowhere"}, now)
		must(t, err)
	}
	_, err := d.CarryOut(context.Background(), orders())
	must(t, err)
	step("etc@2", false)
	if entries, _, _ := d.Journal(); len(entries) != keptEntries {
		t.Errorf("the journal has %d entries, want %d", len(entries), keptEntries)
	}
	must(t, d.Remember("command line", "all"))
	step("all", false)
}

func TestAStopWhileAskingTakesTheOrderOnce(t *testing.T) {
	needsRoot(t)
	for k := 1; k < 40; k++ {
		d := populate(t, memory(t))
		n := 0
		d.stop = func(string) error {
			if n++; n >= k {
				return errStopped
			}
			return nil
		}
		d.Ask("command line", "etc", Request{Kind: Reset, Scope: ScopeEtc}, now)
		d.CarryOut(context.Background(), orders())
		d.stop = nil
		for range 3 {
			_, err := d.Ask("command line", "etc", Request{Kind: Reset, Scope: ScopeEtc}, now)
			must(t, err)
			_, err = d.CarryOut(context.Background(), orders())
			must(t, err)
		}
		entries, _, err := d.Journal()
		must(t, err)
		if len(entries) != 1 || entries[0].Outcome != Done {
			t.Fatalf("stopped before change %d: the journal is %+v", k, entries)
		}
	}
}

func TestIDsGoUpWhateverTheClockSays(t *testing.T) {
	d := open(t, t.TempDir())
	last := ""
	for i, clock := range []time.Time{now, now, now.Add(-50 * 365 * 24 * time.Hour), now.Add(time.Second), now} {
		r, err := d.File(Request{Kind: Undo}, clock)
		must(t, err)
		if r.ID <= last {
			t.Errorf("request %d has the ID %s, after %s", i, r.ID, last)
		}
		last = r.ID
	}
	must(t, d.Cancel(last))
	if err := d.Cancel(last); err == nil {
		t.Error("a request was cancelled twice")
	}
}

func TestBlessEndsUndo(t *testing.T) {
	needsRoot(t)
	root := t.TempDir()
	d := populate(t, root)
	for i, boot := range []string{"a", "a", "b"} {
		n, err := d.Attempt(boot)
		must(t, err)
		if want := []int{1, 1, 2}[i]; n != want {
			t.Errorf("Attempt(%s) = %d, want %d", boot, n, want)
		}
	}
	carried(t, d, Request{Kind: Reset, Scope: ScopeEtc})
	carried(t, d, Request{Kind: Quarantine, Place: "merge/opt"})
	entries, _, err := d.Journal()
	must(t, err)
	id, err := d.Find("1")
	if err != nil || id != entries[0].ID {
		t.Errorf("Find(1) = %q, %v, want %q", id, err, entries[0].ID)
	}
	final, err := d.Bless("b", "1", now)
	must(t, err)
	if len(final) != 1 || final[0].ID != id {
		t.Errorf("Bless = %+v, want the reset alone", final)
	}
	if _, err := d.Find(id); !errors.Is(err, ErrNothingToUndo) {
		t.Errorf("Find after the bless: %v, want ErrNothingToUndo", err)
	}
	if _, err := d.Find(""); err != nil {
		t.Errorf("the quarantine cannot be undone: %v", err)
	}
	if n := d.Attempts(); n != 0 {
		t.Errorf("Attempts = %d after a bless", n)
	}
	if n, err := d.Attempt("c"); n != 1 || err != nil {
		t.Errorf("Attempt after a bless = %d, %v", n, err)
	}
	if b, err := d.Blessed(); err != nil || b.Boot != "b" || b.Deployment != "1" {
		t.Errorf("Blessed = %+v, %v", b, err)
	}
	n := 0
	d.stop = func(string) error { n++; return nil }
	_, err = d.Bless("b", "1", now)
	must(t, err)
	if n > 1 { // the count of attempts, which "c" began
		t.Errorf("a second bless of the same boot changed %d things", n)
	}
}

func TestAnUndoThatWouldMixTwoBasesIsRefused(t *testing.T) {
	needsRoot(t)
	d := populate(t, t.TempDir())
	carried(t, d, Request{Kind: Reset, Scope: "/etc/ssh"})
	must(t, d.WriteStamp("etc/1", Stamp{Product: "kiosk", Base: "b2"}))
	before := list(t, d.Name(), "journal", "ballast", "requests")
	file(Request{Kind: Undo})(t, d)
	out, err := d.CarryOut(context.Background(), orders())
	must(t, err)
	if len(out) != 1 || out[0].Outcome != Refused || !strings.Contains(out[0].Err.Error(), "another base") {
		t.Errorf("CarryOut = %+v, want a refusal", out)
	}
	if after := list(t, d.Name(), "journal", "ballast", "requests"); strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Error("a refused undo changed something")
	}
}

func TestASecureResetDestroysTheKey(t *testing.T) {
	needsRoot(t)
	d := populate(t, t.TempDir())
	file(Request{Kind: Reset, Scope: ScopeAll, Secure: true})(t, d)
	o := orders()
	o.Secure = SecureDestroy
	out, err := d.CarryOut(context.Background(), o)
	if !errors.Is(err, ErrDestroy) || len(out) != 1 || out[0].Outcome != Destroyed {
		t.Fatalf("CarryOut = %+v, %v; want that the key is to be destroyed", out, err)
	}
	if again, _, err := d.Requests(); err != nil || len(again) != 1 {
		t.Errorf("Requests = %v, %v: until the key is gone the request must stay", again, err)
	}
}

func TestANewStateInheritsTheResetThatDestroyedTheOldOne(t *testing.T) {
	needsRoot(t)
	d := populate(t, t.TempDir())
	r := Request{Kind: Reset, Scope: ScopeAll, Secure: true}
	if filed, err := d.Ask(FromCommandLine, "all,secure", r, now); err != nil || !filed {
		t.Fatalf("Ask = %v, %v", filed, err)
	}
	o := orders()
	o.Secure = SecureDestroy
	out, err := d.CarryOut(context.Background(), o)
	if !errors.Is(err, ErrDestroy) {
		t.Fatal(err)
	}
	text := d.Leave(out[0].Request, "boot")

	fresh := populate(t, t.TempDir())
	for n, want := range []bool{true, false} {
		got, heard, err := fresh.Inherit(text, now)
		if err != nil || heard != want || heard && got.Outcome != Destroyed {
			t.Errorf("Inherit, time %d = %+v, %v, %v; want %v", n+1, got, heard, err, want)
		}
	}
	entries, _, err := fresh.Journal()
	must(t, err)
	if len(entries) != 1 || entries[0].Outcome != Destroyed || entries[0].ID != out[0].Request.ID || entries[0].From != FromCommandLine {
		t.Errorf("Journal = %+v, want the reset", entries)
	}
	if filed, err := fresh.Ask(FromCommandLine, "all,secure", r, now); err != nil || filed {
		t.Errorf("Ask = %v, %v: the same order must not be carried out twice", filed, err)
	}
	if _, heard, err := fresh.Inherit("{}", now); heard || err != nil {
		t.Errorf("Inherit of nonsense = %v, %v", heard, err)
	}
}

func TestASecureResetThatCannotBeIsRefused(t *testing.T) {
	needsRoot(t)
	for name, c := range map[string]struct {
		request Request
		kind    Secure
		remake  error
		want    string
	}{
		"of a part":                     {Request{Kind: Reset, Scope: ScopeEtc, Secure: true}, SecureDestroy, nil, "for all of it or not at all"},
		"that keeps something":          {Request{Kind: Reset, Scope: ScopeAll, Keep: []string{KeepIdentity}, Secure: true}, SecureDestroy, nil, "for all of it or not at all"},
		"of a state made by hand":       {Request{Kind: Reset, Scope: ScopeAll, Secure: true}, SecureRefuse, nil, "state.create"},
		"whose key's device is away":    {Request{Kind: Reset, Scope: ScopeAll, Secure: true}, SecureNoKey, nil, "attach it and ask again"},
		"of a base without the program": {Request{Kind: Reset, Scope: ScopeAll, Secure: true}, SecureDestroy, errors.New("no cryptsetup"), "no cryptsetup"},
	} {
		t.Run(name, func(t *testing.T) {
			d := populate(t, t.TempDir())
			before := list(t, d.Name(), "journal", "ballast", "requests")
			file(c.request)(t, d)
			o := orders()
			o.Secure, o.Remake = c.kind, func() error { return c.remake }
			out, err := d.CarryOut(context.Background(), o)
			must(t, err)
			if len(out) != 1 || out[0].Outcome != Refused || !strings.Contains(out[0].Err.Error(), c.want) {
				t.Errorf("CarryOut = %+v, want a refusal with %q", out, c.want)
			}
			if after := list(t, d.Name(), "journal", "ballast", "requests"); strings.Join(before, "\n") != strings.Join(after, "\n") {
				t.Error("a refused reset changed something")
			}
		})
	}
}

func TestReseedNamesBoundDirectoriesThatLostAPart(t *testing.T) {
	needsRoot(t)
	d := populate(t, t.TempDir())
	carried(t, d, Request{Kind: Reset, Scope: ScopeAll, Keep: []string{"/var/lib/app"}})
	roots, err := d.Reseed()
	must(t, err)
	if fmt.Sprint(roots) != "[data/var]" {
		t.Errorf("Reseed = %q, want data/var: data/home went as a whole", roots)
	}
	must(t, d.Reseeded())
	if roots, err := d.Reseed(); err != nil || len(roots) != 0 {
		t.Errorf("Reseed = %q, %v after Reseeded", roots, err)
	}
}
