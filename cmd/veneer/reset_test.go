package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
