package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"veneer/images"
	"veneer/overlay/mount/mounttest"
	"veneer/stage"
)

// board is the root of a running machine on plain directories: an image, a volatile upper, and /var in the state.
func board(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	rec := &stage.Record{Format: stage.RecordFormat, Verified: stage.Verified{Manifest: true, Images: true},
		Images: []stage.Attached{{Role: images.RoleBase, Name: "debian", ID: strings.Repeat("b", 64), Mount: "/base"}},
		Upper:  stage.Upper{Kind: "tmpfs", Mount: "/up"}, State: stage.State{Kind: stage.StatePersistent, Mount: "/state"},
		Rules: []stage.Rule{{Path: "/var", Action: "persist", Form: "bind", Source: "/state/data/var", Origin: "base"}}}
	for name, content := range map[string]string{
		"base/etc/motd": "hello\n", "base/etc/gone": "", "base/etc/binary": "\x00\x01", "base/var/seed": "",
		"up/upper/etc/motd": "hello\nworld\n", "up/upper/etc/n\xffw": "x\n", "up/upper/etc/binary": "\x00\x02", "state/data/var/seed": "", "state/data/var/log": "one\n",
		"state/snapshots/before/snapshot.json": "{}", "state/snapshots/before/data/var/seed": "", "run/veneer/state.json": string(rec.Encode()),
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mknod(filepath.Join(root, "up/upper/etc/gone"), unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	return root
}

// ask runs a verb on a board.
func ask(t *testing.T, words ...string) (code int, output string) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(&out)
	code = run(context.Background(), root, words)
	return code, out.String()
}

func TestTheVerbsOfTheBoardAnswer(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	root := board(t)
	cases := []struct {
		name  string
		words []string
		code  int
		says  []string
	}{
		{"diff", []string{"diff"}, 0, []string{"M /etc/binary\nD /etc/gone\nM /etc/motd\nA \"/etc/n\\xffw\"\nA /var/log\n"}},
		{"diff of a path", []string{"diff", "/var"}, 0, []string{"A /var/log\n"}},
		{"diff of what has not changed", []string{"diff", "/var/seed"}, 0, nil},
		{"diff of nothing", []string{"diff", "/no/such"}, exitFailed, []string{"/no/such: neither there now"}},
		{"diff of everything", []string{"diff", "--all", "/var"}, 0, []string{"= /var/\nA /var/log\n= /var/seed\n"}},
		{"diff as a patch", []string{"diff", "--patch", "/etc"}, 0, []string{"M /etc/binary\nbinary: 2 -> 2 bytes\n", "--- a/etc/motd\n+++ b/etc/motd\n@@ -1 +1,2 @@\n hello\n+world\n",
			"--- /dev/null\n+++ \"b/etc/n\\377w\"\n@@ -0,0 +1 @@\n+x\n"}},
		{"diff in numbers", []string{"diff", "--stat"}, 0, []string{"       2  added\n       2  modified\n       1  deleted\n"}},
		{"diff with a snapshot", []string{"diff", "before"}, 0, []string{"A /var/log\n# /  not in the snapshot\n"}},
		{"diff of a path with a snapshot", []string{"diff", "before", "/var/log"}, 0, []string{"A /var/log\n"}},
		{"diff with no such snapshot", []string{"diff", "after", "/var/log"}, exitFailed, []string{`snapshot "after"`}},
		{"diff in two forms", []string{"diff", "--json", "--stat"}, exitUsage, []string{"exclude each other"}},
		{"why", []string{"why", "/etc/motd"}, 0, []string{"by the upper of /\n", "hidden    base debian bbbbbbbbbbbb"}},
		{"why, for programs", []string{"why", "--json", "/var/log"}, 0, []string{`"action": "persist"`, `"kept": true`}},
		{"why of nothing in particular", []string{"why"}, exitUsage, []string{"accepts 1 arg"}},
		{"du", []string{"du"}, 0, []string{"upper of /: ", "data of /var: ", "snapshots: ", "/etc/motd\n"}},
		{"du of a path, for programs", []string{"du", "--json", "/var", "-n", "1"}, 0, []string{`"path": "/var/log"`}},
		{"du of too much", []string{"du", "-n", "-1"}, exitUsage, []string{"want 0 to"}},
		{"watch", []string{"watch"}, 0, []string{"upper (memory"}},
		{"watch, for programs", []string{"watch", "--json"}, 0, []string{`"what": "data"`}},
		{"status of the rules", []string{"status", "--rules"}, 0, []string{"/var  persist  bind  /state/data/var  base"}},
		{"status for logins", []string{"status", "--banner"}, 0, nil},
	}
	t.Setenv("JOURNAL_STREAM", "")
	if _, out := ask(t, "diff", "before", "/var", "--root", root); out != "A /var/log\n" {
		t.Errorf("diff of /var with a snapshot tells more than that of /var:\n%s", out)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			code, out := ask(t, append(c.words, "--root", root)...)
			if code != c.code {
				t.Errorf("%q = %d, want %d:\n%s", c.words, code, c.code, out)
			}
			for _, says := range c.says {
				if !strings.Contains(out, says) {
					t.Errorf("%q does not say %q:\n%s", c.words, says, out)
				}
			}
			if c.says == nil && out != "" {
				t.Errorf("%q says %q, want nothing", c.words, out)
			}
		})
	}
}

func TestDiffIsAListForPrograms(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	root := board(t)
	for path, want := range map[string]int{"/": 5, "/var/seed": 0} {
		code, out := ask(t, "diff", "--json", path, "--root", root)
		var list []struct {
			Path  string `json:"path"`
			Bytes []byte `json:"path-base64"`
			Type  string `json:"type"`
		}
		if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 || len(list) != want {
			t.Fatalf("veneer diff --json %s = %d, %v, %d changes, want %d:\n%s", path, code, err, len(list), want, out)
		}
		for _, c := range list {
			if strings.Contains(c.Path, "\ufffd") && string(c.Bytes) != "/etc/n\xffw" {
				t.Errorf("the bytes of %q are %q", c.Path, c.Bytes)
			}
		}
	}
}

func TestTheVerbsOfTheBoardNeedARecord(t *testing.T) {
	for _, words := range [][]string{{"diff"}, {"why", "/"}, {"du"}, {"watch"}} {
		if code, out := ask(t, append(words, "--root", t.TempDir())...); code != exitFailed || !strings.Contains(out, "not booted by Veneer") {
			t.Errorf("%q = %d:\n%s", words, code, out)
		}
	}
}
