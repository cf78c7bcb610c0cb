package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"veneer/overlay/state"
	"veneer/stage"
)

func TestAResetKeepsAPathWhateverItsNameHolds(t *testing.T) {
	for _, name := range []string{"a,b", "a\nb", `q"q`, "a b", "tab\t", `back\slash`, "no utf8 \xff", "*", "-x", "trailing,"} {
		t.Run(name, func(t *testing.T) {
			root, d := keptMachine(t, stage.StatePersistent)
			upper := filepath.Join(root, stage.MountsDir, "state/etc/1/fs")
			others := []string{name, "a", "b", "q", "app.conf"}
			for _, n := range others {
				if err := os.WriteFile(filepath.Join(upper, n), []byte("x"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if code, out := onMachine(t, root, "reset", "--keep", "/etc/"+name, "--keep", "identity,network"); code != 0 {
				t.Fatalf("exit %d: %s", code, out)
			}
			requests, problems, err := d.Requests()
			want := []string{"/etc/" + name, "identity", "network"}
			if err != nil || len(problems) != 0 || len(requests) != 1 || !slices.Equal(requests[0].Keep, want) {
				t.Fatalf("on file: %+v, %v, %v; want one request that keeps %q", requests, problems, err, want)
			}
			boots(t, d)
			entries, err := os.ReadDir(upper)
			var left []string
			for _, e := range entries {
				left = append(left, e.Name())
			}
			if wanted := slices.Sorted(slices.Values([]string{name, "hostname"})); err != nil || !slices.Equal(left, wanted) {
				t.Errorf("after the reset /etc has %q, %v; want %q", left, err, wanted)
			}
		})
	}
}

func TestAResetTakesNoListOfPathsForAPath(t *testing.T) {
	root, d := keptMachine(t, stage.StatePersistent)
	for _, words := range [][]string{{"--keep", "identity,/etc/a"}, {"--keep", "/etc/a,/etc/b"}} {
		code, out := onMachine(t, root, append([]string{"reset"}, words...)...)
		if code != exitUsage || !strings.Contains(out, "a --keep of its own") {
			t.Errorf("reset %q: exit %d: %s", words, code, out)
		}
	}
	if requests, _, _ := d.Requests(); len(requests) != 0 {
		t.Errorf("on file: %v", requests)
	}
	odd := filepath.Join(root, "etc/a,/etc")
	if err := os.MkdirAll(odd, 0o755); err != nil {
		t.Fatal(err)
	}
	if code, out := onMachine(t, root, "reset", "--keep", "/etc/a,/etc"); code != 0 {
		t.Errorf("a path that is there and looks like a list: exit %d: %s", code, out)
	}
}

func TestAResetOfAPathAroundWhatIsKeptSaysSo(t *testing.T) {
	root, d := keptMachine(t, stage.StatePersistent)
	code, out := onMachine(t, root, "reset", "--scope", "/", "--dry-run")
	if code != 0 || !strings.HasPrefix(out, "Of / itself each boot keeps nothing; below it there are places that are kept.\nThe next boot would wipe:\n  /") || strings.Contains(out, "is not kept") {
		t.Errorf("reset --scope /: exit %d:\n%s", code, out)
	}
	if code, out := onMachine(t, root, "reset", "--scope", "/nope"); code != exitFailed {
		t.Errorf("reset --scope /nope: exit %d: %s", code, out)
	}
	if requests, _, _ := d.Requests(); len(requests) != 0 {
		t.Errorf("on file: %+v", requests)
	}
}

func TestNamesAndTimesAreForPeople(t *testing.T) {
	root, _ := keptMachine(t, stage.StatePersistent)
	if code, out := onMachine(t, root, "journal"); code != 0 || !strings.Contains(out, "veneer snapshot list") {
		t.Errorf("journal: exit %d: %s", code, out)
	}
	if code, out := onMachine(t, root, "snapshot", "first", "--data"); code != 0 {
		t.Fatal(out)
	}
	code, out := onMachine(t, root, "snapshot", "list")
	if code != 0 || !regexp.MustCompile(`^first +\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d) `).MatchString(out) {
		t.Errorf("snapshot list: exit %d: %s", code, out)
	}
	for e, want := range map[state.Entry]string{{Kind: state.Undo, Of: "7"}: "undo 7", {Kind: state.Reset}: "reset", {Kind: state.Reset, What: "reset all"}: "reset all"} {
		if got := whatOf(e); got != want {
			t.Errorf("whatOf(%+v) = %q, want %q", e, got, want)
		}
	}
	// One spelling of a name, quoted only where it must be.
	upper := filepath.Join(root, stage.MountsDir, "state/etc/1/fs")
	if err := os.MkdirAll(filepath.Join(root, stage.UpperDir, "upper"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a\nb", "a b"} {
		if err := os.WriteFile(filepath.Join(upper, name), []byte(strings.Repeat("x", 9000)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, words := range [][]string{{"diff"}, {"du"}, {"etc", "diff"}} {
		code, out := onMachine(t, root, words...)
		quoted, plain := regexp.MustCompile(`[ /"]a\\nb"`), regexp.MustCompile(`[ /]a b(\n|$)`)
		if code != 0 || !quoted.MatchString(out) || !plain.MatchString(out) || strings.Contains(out, `\x`) {
			t.Errorf("veneer %q: exit %d:\n%s", words, code, out)
		}
	}
}

func TestAMessageDoesNotSteerTheTerminal(t *testing.T) {
	for message, want := range map[string]string{"open /a\x1b[31m\xff: no": `open /a\x1b[31m\xff: no`, "two\nlines, \"é\" \ufffd\u202e": "two\nlines, \"é\" \ufffd\\u202e"} {
		if got := harmless(message); got != want {
			t.Errorf("harmless(%q) = %q, want %q", message, got, want)
		}
	}
}
