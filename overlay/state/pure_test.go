package state

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEscapeIsThatOfSystemd(t *testing.T) {
	paths := []string{"/", "/var", "/var/lib/foo-bar", "/.hidden", "/a/.b", "/-", `/back\slash`, "/spa ce/ü", "/a:b_c.d", "/a//b", "/x\xff\n", "/..a", "/a\x01"}
	program, err := exec.LookPath("systemd-escape")
	if err != nil {
		t.Log("systemd-escape is not here: only the round trip is tested")
	}
	for _, p := range paths {
		got, err := Escape(p)
		if strings.Contains(p, "//") {
			if err == nil {
				t.Errorf("Escape(%q) = %q, want a refusal of what is not clean", p, got)
			}
			continue
		}
		if err != nil {
			t.Errorf("Escape(%q): %v", p, err)
			continue
		}
		if back, err := Unescape(got); err != nil || back != p {
			t.Errorf("Unescape(%q) = %q, %v, want %q", got, back, err, p)
		}
		if program == "" {
			continue
		}
		out, err := exec.Command(program, "--path", "--", p).Output()
		if err != nil {
			t.Errorf("systemd-escape --path %q: %v", p, err)
		} else if want := strings.TrimSuffix(string(out), "\n"); got != want {
			t.Errorf("Escape(%q) = %q, systemd has %q", p, got, want)
		}
	}
}

func TestWhatIsNoPathOrNameIsRefused(t *testing.T) {
	for _, p := range []string{"", "var", "/var/", "/a/../b", "/a/./b", "/" + strings.Repeat("a", 256), "/nul\x00"} {
		if got, err := Escape(p); err == nil {
			t.Errorf("Escape(%q) = %q, want a refusal", p, got)
		}
	}
	for _, n := range []string{"", ".a", "a--b", "-a", "a-", `a\x2`, `a\x2E`, `\x61`, "a/b", "a b", ".", ".."} {
		if got, err := Unescape(n); err == nil {
			t.Errorf("Unescape(%q) = %q, want a refusal", n, got)
		}
	}
}

func FuzzEscape(f *testing.F) {
	for _, p := range []string{"/", "/var/lib/foo-bar", "/.x", "/\xff"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if name, err := Escape(p); err == nil {
			if back, err := Unescape(name); err != nil || back != p || strings.Contains(name, "/") {
				t.Errorf("Escape(%q) = %q, and back %q, %v", p, name, back, err)
			}
		}
		if back, err := Unescape(p); err == nil {
			if name, err := Escape(back); err != nil || name != p {
				t.Errorf("Unescape(%q) = %q, and back %q, %v", p, back, name, err)
			}
		}
	})
}

func FuzzParseStamp(f *testing.F) {
	f.Add(Stamp{Format: 1, Product: "kiosk", Version: "1", Serial: "1", Base: "b", Lowers: []string{"t", "b"}, Options: "index=off"}.Encode())
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := ParseStamp(text); err == nil && !bytes.Equal(s.Encode(), text) {
			t.Errorf("accepted %q, which is written %q", text, s.Encode())
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	f.Add(Request{Format: 1, ID: newID(now), Kind: Reset, Scope: "all", Keep: []string{"identity", "/a\xff b"}}.Encode())
	f.Add(Request{Format: 1, ID: newID(now), Kind: Restore, Snapshot: "s"}.Encode())
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, err := ParseRequest(text); err == nil && !bytes.Equal(r.Encode(), text) {
			t.Errorf("accepted %q, which is written %q", text, r.Encode())
		}
	})
}

// Everything else that is read back: no input may make a parser do more than refuse.
func FuzzParseRecords(f *testing.F) {
	f.Add([]byte("{\n  \"format\": 1\n}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if o, err := parseOperation(text); err == nil {
			for _, m := range o.Moves {
				if strings.Contains("/"+m.From+"/", "/../") || strings.Contains("/"+m.Back+"/", "/../") {
					t.Errorf("a move leaves the state: %+v", m)
				}
			}
		}
		if s, err := parseSnapshot(text); err == nil {
			for _, p := range s.Parts {
				if strings.Contains("/"+p+"/", "/../") {
					t.Errorf("a part leaves the state: %q", p)
				}
			}
		}
		ParseEntry(text)
		parseIndex(bytes.NewReader(text))
		leadingFormat(text)
	})
}

func TestCompareOfStamps(t *testing.T) {
	want := Stamp{Product: "kiosk", Base: "b", Lowers: []string{"t", "b"}, Options: "index=off"}
	with := func(change func(*Stamp)) Stamp { s := want; change(&s); return s }
	for _, c := range []struct {
		name string
		have Stamp
		want Verdict
	}{
		{"the same", want, Same},
		{"another version alone", with(func(s *Stamp) { s.Version = "2"; s.Veneer = "x"; s.Serial = "7" }), Same},
		{"another base", with(func(s *Stamp) { s.Base = "c" }), OtherBase},
		{"another layer", with(func(s *Stamp) { s.Lowers = []string{"t", "l", "b"} }), OtherBase},
		{"other options", with(func(s *Stamp) { s.Options = "index=on"; s.Base = "c" }), OtherOptions},
		{"another product", with(func(s *Stamp) { s.Product = "till"; s.Options = "x" }), ForeignStamp},
	} {
		if got := Compare(c.have, want); got != c.want {
			t.Errorf("%s: Compare = %q, want %q", c.name, got, c.want)
		}
	}
}

func TestDecide(t *testing.T) {
	good := []string{"c", "b", "a"}
	for _, c := range []struct {
		name  string
		after int
		h     Health
		want  string
	}{
		{"no policy", 0, Health{Attempts: 9, Blessed: true, Snapshots: good}, ""},
		{"nobody ever blessed", 3, Health{Attempts: 9, Snapshots: good}, ""},
		{"not yet", 3, Health{Attempts: 3, Blessed: true, Snapshots: good}, ""},
		{"enough", 3, Health{Attempts: 4, Blessed: true, Snapshots: good}, "c"},
		{"the newest did not help, not yet", 3, Health{Attempts: 6, Blessed: true, Snapshots: good, Tried: []string{"c"}}, ""},
		{"the newest did not help", 3, Health{Attempts: 7, Blessed: true, Snapshots: good, Tried: []string{"c"}}, "b"},
		{"nothing helped", 3, Health{Attempts: 99, Blessed: true, Snapshots: good, Tried: good}, ""},
		{"no snapshot", 3, Health{Attempts: 99, Blessed: true}, ""},
	} {
		if got, why := Decide(c.after, c.h); got != c.want || why == "" && got == "" {
			t.Errorf("%s: Decide = %q, %q, want %q", c.name, got, why, c.want)
		}
	}
}

func TestRequestsAreChecked(t *testing.T) {
	good := []Request{{Kind: Reset, Scope: "all"}, {Kind: Reset, Scope: "/etc/ssh", Keep: []string{"network", "/a b"}}, {Kind: Undo}, {Kind: Undo, Of: newID(now)},
		{Kind: Restore, Snapshot: "before-upgrade"}, {Kind: Quarantine, Place: "etc/1"}, {Kind: Quarantine, Place: "upper"}}
	for _, r := range good {
		if err := r.Check(); err != nil {
			t.Errorf("Check(%+v): %v", r, err)
		}
	}
	bad := []Request{{}, {Kind: Reset}, {Kind: Reset, Scope: "everything"}, {Kind: Reset, Scope: "/a/../b"}, {Kind: Reset, Scope: "all", Keep: []string{"passwords"}},
		{Kind: Undo, Of: "1"}, {Kind: Restore}, {Kind: Restore, Snapshot: "../x"}, {Kind: Restore, Snapshot: ".new-x"}, {Kind: Quarantine, Place: "etc/../x"},
		{Kind: Quarantine, Place: "journal/1"}, {Kind: Quarantine, Place: "etc/1/fs"}, {Kind: "explode"}}
	for _, r := range bad {
		if err := r.Check(); err == nil {
			t.Errorf("Check(%+v) = nil, want a refusal", r)
		}
	}
	both := Request{Kind: Reset, Scope: "x", Keep: []string{"y"}}
	two := both.Check()
	if two == nil || !strings.Contains(two.Error(), `"x"`) || !strings.Contains(two.Error(), `"y"`) {
		t.Errorf("Check names %v, want both mistakes", two)
	}
}

func TestLocate(t *testing.T) {
	places := []Place{{"/", "upper", "upper/fs"}, {"/etc", "etc/1", "etc/1/fs"}, {"/var", "data/var", "data/var"}}
	for _, c := range []struct{ path, root, rel string }{
		{"/etc", "etc/1", ""}, {"/etc/ssh/x", "etc/1", "ssh/x"}, {"/etcetera", "upper", "etcetera"}, {"/var/lib", "data/var", "lib"}, {"/", "upper", ""},
	} {
		place, rel, ok := locate(places, c.path)
		if diff := cmp.Diff([]any{c.root, c.rel, true}, []any{place.Root, rel, ok}); diff != "" {
			t.Errorf("locate(%s) (-want +got):\n%s", c.path, diff)
		}
	}
}
