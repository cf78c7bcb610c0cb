package changes

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

const updateEnv = "VENEER_TEST_UPDATE"

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update || os.Getenv(updateEnv) != "" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", file, diff)
	}
}

func numbered(n int, changed map[int]string) string {
	var b strings.Builder
	for i := range n {
		if line, ok := changed[i]; ok {
			b.WriteString(line)
			continue
		}
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

func TestPatchesLookAsTheyDidWhenTheyWereReviewed(t *testing.T) {
	cases := []struct{ name, old, new string }{
		{"two-hunks", numbered(30, nil), numbered(30, map[int]string{2: "changed\n", 20: "", 25: "line 25\nmore\n"})},
		{"one-hunk-of-two-near-changes", numbered(12, nil), numbered(12, map[int]string{2: "x\n", 9: "y\n"})},
		{"new-file", "", "one\ntwo\n"},
		{"gone-file", "one\n", ""},
		{"no-newline", "a\nb", "a\nb\n"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			golden(t, c.name+".diff", unified("a/f", "b/f", lines([]byte(c.old)), lines([]byte(c.new)), false))
		})
	}
}

func TestNamesAreQuotedAsPatchReadsThem(t *testing.T) {
	for name, want := range map[string]string{"a/x y": "a/x y", "a/\xff\n": `"a/\377\012"`, `a/"\`: `"a/\"\\"`, "a/ü": `"a/\303\274"`} {
		if got := patchName(name); got != want {
			t.Errorf("patchName(%q) = %s, want %s", name, got, want)
		}
	}
}

func TestWhatIsTextIsTold(t *testing.T) {
	for content, want := range map[string]bool{"": true, "hello\n": true, "a\x00b": false, "latin-1: 12345678901234567890 \xe4": true, "\x01\x02\x03\x04": false} {
		if got := text([]byte(content)); got != want {
			t.Errorf("text(%q) = %v, want %v", content, got, want)
		}
	}
}

func TestPatchTakesThePatches(t *testing.T) {
	if _, err := exec.LookPath("patch"); err != nil {
		t.Skip("there is no patch(1) here: apt install patch")
	}
	r := &roller{seed: 7}
	for i := range 40 {
		var a, b strings.Builder
		for range r.n(60) {
			line := fmt.Sprintf("%d\n", r.n(8))
			if r.n(6) > 0 {
				a.WriteString(line)
			}
			if r.n(6) > 0 {
				b.WriteString(line)
			}
		}
		if a.String() == b.String() {
			continue
		}
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, []byte(a.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("patch", "--force", "--fuzz=0", file)
		cmd.Stdin = strings.NewReader(unified("a/f", "b/f", lines([]byte(a.String())), lines([]byte(b.String())), false))
		out, err := cmd.CombinedOutput()
		got, readErr := os.ReadFile(file)
		if os.IsNotExist(readErr) {
			readErr = nil // patch removes what becomes empty
		}
		if err != nil || readErr != nil || string(got) != b.String() {
			t.Fatalf("%d: patch: %v, %s: got %q, want %q", i, err, out, got, b.String())
		}
	}
}

// apply follows a way.
func apply(edits []edit) (a, b string) {
	for _, e := range edits {
		if e.op != '+' {
			a += e.line
		}
		if e.op != '-' {
			b += e.line
		}
	}
	return a, b
}

func FuzzTheWayLeadsFromOneTextToTheOther(f *testing.F) {
	f.Add([]byte("a\nb\nc\n"), []byte("b\nc\nd"))
	f.Add([]byte(""), []byte("\n\n"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if gotA, gotB := apply(script(lines(a), lines(b))); gotA != string(a) || gotB != string(b) {
			t.Errorf("script(%q, %q) leads from %q to %q", a, b, gotA, gotB)
		}
		for _, line := range strings.Split(unified("a", "b", lines(a), lines(b), true), "\n") {
			if bytes.ContainsAny([]byte(line), "\x00\x1b\r\b") {
				t.Errorf("%q steers a terminal", line)
			}
		}
	})
}

func TestTheWayIsTheShortest(t *testing.T) {
	a, b := strings.Split("ABCABBA", ""), strings.Split("CBABAC", "")
	n := 0
	for _, e := range script(a, b) {
		if e.op != ' ' {
			n++
		}
	}
	if n != 5 {
		t.Errorf("%d edits from ABCABBA to CBABAC, want 5 (Myers)", n)
	}
}

func TestTextsWithNothingInCommonAreReplaced(t *testing.T) {
	a, b := numbered(3000, nil), strings.ReplaceAll(numbered(3000, nil), "line", "other")
	gotA, gotB := apply(script(lines([]byte(a)), lines([]byte(b))))
	if gotA != a || gotB != b {
		t.Error("the way leads elsewhere")
	}
}

func FuzzRedirects(f *testing.F) {
	for _, s := range []string{"name", "/a/b", "/", "", "a/b", "/a/../b", "..", "/a//b", "x\x00y", "name\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		s, err := parseRedirect(v)
		if err != nil {
			return
		}
		if s == "" || strings.Contains(s, "\x00") || s[0] != '/' && strings.Contains(s, "/") {
			t.Errorf("parseRedirect(%q) = %q", v, s)
		}
		for _, p := range strings.Split(strings.TrimPrefix(s, "/"), "/") {
			if p == "" || p == "." || p == ".." {
				t.Errorf("parseRedirect(%q) = %q, which leads out of the layer", v, s)
			}
		}
	})
}
