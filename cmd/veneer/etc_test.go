package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"veneer/overlay/merge"
	"veneer/overlay/mount/mounttest"
)

// A machine whose /etc was merged onto a second base: two images, an upper, and the record that says where they are. More scripts run
// in /etc of the first base, of the second, and of the machine before the merge.
func mergedMachine(t *testing.T, more ...string) string {
	t.Helper()
	root, err := os.MkdirTemp("", "veneer-etc-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Unmount(filepath.Join(root, "etc"), unix.MNT_DETACH)
		os.RemoveAll(root)
	})
	do := func(script string) {
		t.Helper()
		cmd := exec.Command("sh", "-ec", "umask 022; "+script)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	mount := func(base string) {
		t.Helper()
		data := fmt.Sprintf("lowerdir=%[1]s/run/base%[2]s/etc:%[1]s/run/tools/etc,upperdir=%[1]s/run/state/etc/1/fs,workdir=%[1]s/run/state/etc/1/work,index=off,redirect_dir=off,metacopy=off", root, base)
		if err := unix.Mount("overlay", filepath.Join(root, "etc"), "overlay", 0, data); err != nil {
			t.Fatal(err)
		}
	}
	do(`mkdir -p etc run/base1/etc/d run/tools/etc run/state/etc/1/fs run/state/etc/1/work run/state/etc/1/stamp run/veneer
		cd run/base1/etc; for f in a b c deleted d/x d/y same; do echo 1 >$f; done; cd ../..; cp -a base1 base2; cd base2/etc; echo 2 >a; echo 2 >b; rm c; mkdir c; echo 2 >c/in; echo 2 >d/new`)
	more = append(more, ":", ":", ":")
	do("cd run/base1/etc; " + more[0])
	do("cd run/base2/etc; " + more[1])
	mount("1")
	do("cd etc; " + more[2])
	do(`cd etc; echo 9 >a; rm b; echo 9 >c; rm deleted; echo 9 >mine; rm -r d; mkdir d; echo 9 >d/x; chmod 700 same`)
	if err := unix.Unmount(filepath.Join(root, "etc"), 0); err != nil {
		t.Fatal(err)
	}
	b, err := merge.Scan(root + "/run/base1/etc")
	if err != nil {
		t.Fatal(err)
	}
	var index bytes.Buffer
	if err := b.Write(&index); err != nil {
		t.Fatal(err)
	}
	old, err := merge.NewIndex(bytes.NewReader(index.Bytes()), int64(index.Len()))
	if err != nil {
		t.Fatal(err)
	}
	state := root + "/run/state/etc/1"
	r, err := merge.Run(context.Background(), merge.Spec{Path: "/etc", Upper: state + "/fs", Scratch: state + "/stamp", From: "1", To: "2", Old: old,
		Lowers: []string{root + "/run/tools/etc", root + "/run/base2/etc"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(state+"/stamp/report.json", r.Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	mount("2")
	record := `{"format": 1, "images": [{"mount": "/run/tools"}, {"mount": "/run/base2"}], "upper": {"kind": "tmpfs", "mount": "/run/upper"}, "state": {"kind": "persistent", "mount": "/run/state"},
		"rules": [{"path": "/etc", "action": "merge", "form": "overlay", "source": "/run/state/etc/1"}, {"path": "/var", "action": "persist", "source": "data/var"}]}`
	if err := os.WriteFile(root+"/run/veneer/state.json", []byte(record), 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

func veneerEtc(t *testing.T, root string, words ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	cmd := newRoot()
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	code := run(t.Context(), cmd, append([]string{"etc", "--root", root}, words...))
	return code, out.String()
}

func TestEtcShowsAndResolvesWhatAMergeLeft(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	root := mergedMachine(t)
	state := func() string {
		out, err := exec.Command("sh", "-c", "cd "+root+`/etc && find . -type f | sort | while read f; do printf '%s=%s ' "${f#./}" "$(cat $f)"; done`).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	steps := []struct {
		name  string
		words []string
		code  int
		says  []string
		state string // afterwards; empty for unchanged
	}{
		{"what is local", []string{"diff"}, 0, []string{"conflict       a  the base's side is a.new", "conflict       b  the", "type-clash     c  ", "deleted-local  deleted", "kept-local     mine", "kept-local     d/x", "deleted-local  d/y", "kept-local     same"}, "a=9 a.new=2 b.new=2 c=9 c.new/in=2 d/new=2 d/x=9 mine=9 same=1"},
		{"below a path", []string{"diff", "/etc/d"}, 0, []string{"kept-local     d/x"}, ""},
		{"as JSON", []string{"diff", "--json", "a"}, 0, []string{`"conflict": 1`, `"side": "a.new"`, `"kept-local": 0`}, ""},
		{"what would be done", []string{"accept", "--dry-run", "a"}, 0, []string{"a: replaced by a.new"}, ""},
		{"the base's side", []string{"accept", "/etc/a", "b"}, 0, []string{"a: replaced by a.new", "b: replaced by b.new"}, "a=2 b=2 c=9 c.new/in=2 d/new=2 d/x=9 mine=9 same=1"},
		{"a directory as the base's side, and a path that has none", []string{"accept", "d/x", "c"}, exitFailed, []string{"c: replaced by c.new", "d/x: the base has laid nothing beside it"}, "a=2 b=2 c/in=2 d/new=2 d/x=9 mine=9 same=1"},
		{"nothing to accept", []string{"accept", "d/x"}, exitFailed, []string{"the base has laid nothing beside it"}, ""},
		{"what a reset would do", []string{"reset", "--dry-run", "--json", "d"}, 0, []string{`"dry-run": true`, `"path": "d/y"`, `"what": "restored"`}, ""},
		{"a reset of a directory", []string{"reset", "d"}, 0, []string{"d/x: replaced by what the base has", "d/y: restored"}, "a=2 b=2 c/in=2 d/new=2 d/x=1 d/y=1 mine=9 same=1"},
		{"a reset of what was never changed", []string{"reset", "d/new"}, 0, []string{"nothing local there"}, ""},
		{"a reset of all", []string{"reset", "/etc"}, 0, []string{"deleted: restored", "mine: removed", "same: replaced"}, "a=2 b=2 c/in=2 d/new=2 d/x=1 d/y=1 deleted=1 same=1"},
		{"nothing is local", []string{"diff"}, 0, []string{"pruned         a  equal to the base", "equal to the base"}, ""},
		{"a path elsewhere", []string{"reset", "/usr/bin"}, exitUsage, []string{"does not lie in /etc"}, ""},
		{"a directory that is not merged", []string{"--dir", "/var", "diff"}, exitFailed, []string{"not in a merged directory: /var is persist"}, ""},
		{"no such verb", []string{"merge"}, exitUsage, []string{"unknown command"}, ""},
	}
	now := ""
	for _, s := range steps {
		code, out := veneerEtc(t, root, s.words...)
		if code != s.code {
			t.Errorf("%s: code %d, want %d: %s", s.name, code, s.code, out)
		}
		for _, want := range s.says {
			if !strings.Contains(out, want) {
				t.Errorf("%s: want %q in:\n%s", s.name, want, out)
			}
		}
		if s.state != "" {
			now = s.state
		}
		if got := state(); got != now {
			t.Fatalf("%s: files are\n%s, want\n%s", s.name, got, now)
		}
	}
	if code, out := veneerEtc(t, t.TempDir(), "diff"); code != exitFailed || !strings.Contains(out, "not booted by Veneer") {
		t.Errorf("on another machine: %d, %s", code, out)
	}
}

func TestStatusAndEtcDiffTellTheSameOpenConflicts(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	root := mergedMachine(t, `mkdir meta; echo 1 >edited; echo 1 >kept; echo 1 >gone`,
		`mkdir -m 700 meta; echo 2 >edited; echo 2 >kept; mkdir gone; echo 2 >added`, `chmod 711 meta; echo 9 >edited; echo 9 >kept; rm gone; echo 9 >added`)
	// told is what status and etc diff list, one verdict and path a line; both have to agree.
	told := func() string {
		t.Helper()
		var status struct {
			Conflicts []struct{ Directory, Path, Verdict, Note string }
		}
		var etc struct {
			Items []struct{ Path, Verdict, Note string }
		}
		for verb, into := range map[string]any{"status": &status, "etc": &etc} {
			words := []string{verb, "--json"}
			if verb == "etc" {
				words = []string{verb, "diff", "--json"}
			}
			code, out := onMachine(t, root, words...)
			if err := json.Unmarshal([]byte(out), into); code != 0 || err != nil {
				t.Fatalf("veneer %s: exit %d, %v\n%s", verb, code, err, out)
			}
		}
		var a, b []string
		for _, c := range status.Conflicts {
			a = append(a, c.Verdict+" "+strings.TrimPrefix(c.Path, "/etc/")+": "+c.Note)
		}
		for _, i := range etc.Items {
			if i.Verdict == "conflict" || i.Verdict == "type-clash" {
				b = append(b, i.Verdict+" "+i.Path+": "+i.Note)
			}
		}
		if diff := cmp.Diff(a, b); diff != "" {
			t.Errorf("open conflicts (-status +etc diff):\n%s", diff)
		}
		_, text := onMachine(t, root, "status")
		if n := strings.Count(text, "\n  conflict ") + strings.Count(text, "\n  type-clash "); n != len(a) || strings.Contains(text, "To decide: veneer etc diff\n") != (n > 0) {
			t.Errorf("status lists %d conflicts in words and %d as JSON:\n%s", n, len(a), text)
		}
		return strings.Join(a, "\n")
	}
	want := strings.Join([]string{"conflict a: ", "conflict added: made on both sides", "conflict b: deleted, and changed in the base", "type-clash c: ", "conflict edited: ",
		"type-clash gone: deleted, and another type in the base", "conflict kept: ", "conflict meta: owner, mode or attributes of the directory"}, "\n")
	got := told()
	if got != want {
		t.Errorf("open:\n%s\nwant:\n%s", got, want)
	}
	for _, words := range [][]string{{"accept", "a", "gone"}, {"reset", "c"}} {
		if code, out := veneerEtc(t, root, words...); code != 0 {
			t.Fatal(out)
		}
	}
	if err := errors.Join(os.RemoveAll(root+"/etc/kept.new"), os.Rename(root+"/etc/edited.new", root+"/etc/elsewhere"), os.WriteFile(root+"/etc/added.new", []byte("edited"), 0o644), os.Chmod(root+"/etc/meta", 0o710)); err != nil {
		t.Fatal(err)
	}
	if got, want := told(), "conflict added: made on both sides\nconflict b: deleted, and changed in the base"; got != want {
		t.Errorf("open, after most were decided:\n%s\nwant:\n%s", got, want)
	}
	// Without the report the marks of the sides still tell.
	if err := os.WriteFile(root+"/run/state/etc/1/stamp/report.json", []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := told(), "conflict added: \nconflict b: "; got != want {
		t.Errorf("open, without the report:\n%s\nwant:\n%s", got, want)
	}
	// An upper that a persist rule keeps may be merged as well (base-change = "merge").
	record, err := os.ReadFile(root + "/run/veneer/state.json")
	if err == nil {
		err = os.WriteFile(root+"/run/veneer/state.json", bytes.Replace(record, []byte(`"merge", "form"`), []byte(`"persist", "form"`), 1), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, want := told(), "conflict added: \nconflict b: "; got != want {
		t.Errorf("open, under a persist rule:\n%s\nwant:\n%s", got, want)
	}
}
