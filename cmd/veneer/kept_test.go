package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"veneer/images"
	"veneer/overlay"
	"veneer/overlay/mount"
	"veneer/overlay/mount/mounttest"
	"veneer/overlay/state"
	"veneer/stage"
)

// keptMachine is the root of a machine with a state: /etc merged, /var bound.
func keptMachine(t *testing.T, kind string) (root string, d *state.Dir) {
	t.Helper()
	root = t.TempDir()
	mount := stage.MountsDir + "/state"
	rec := stage.Record{Format: stage.RecordFormat, Deployment: stage.Deployment{Serial: "1"}, State: stage.State{Kind: kind, Mount: mount, Why: "the disk\nis gone"},
		Upper: stage.Upper{Kind: "tmpfs", Mount: stage.UpperDir},
		Rules: []stage.Rule{{Path: "/etc", Action: "merge", Form: "overlay", Source: mount + "/etc/1"}, {Path: "/var", Action: "persist", Form: "bind", Source: mount + "/data/var"}}}
	for name, text := range map[string]string{
		stage.RecordPath: string(rec.Encode()), "/proc/sys/kernel/random/boot_id": "6a0e8a2c-0000-4000-8000-000000000001\n",
		mount + "/etc/1/fs/hostname": "kiosk", mount + "/etc/1/fs/app.conf": "x", mount + "/data/var/lib/app/db": "rows",
	} {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d, err := state.Open(filepath.Join(root, mount))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.Adopt(state.Owner{Product: "kiosk"}); err != nil {
		t.Fatal(err)
	}
	return root, d
}

func onMachine(t *testing.T, root string, words ...string) (code int, out string) {
	t.Helper()
	var b bytes.Buffer
	cmd := newRoot()
	cmd.SetOut(&b)
	cmd.SetErr(&b)
	code = run(context.Background(), cmd, append(words, "--root", root))
	return code, b.String()
}

// boots carries out what is on file, as the init would.
func boots(t *testing.T, d *state.Dir) {
	t.Helper()
	out, err := d.CarryOut(context.Background(), state.Orders{Serial: "1", Boot: "next"})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range out {
		if o.Err != nil {
			t.Fatalf("%s: %v", o.What, o.Err)
		}
	}
}

func TestTheVerbsOfAStateTogether(t *testing.T) {
	root, d := keptMachine(t, stage.StatePersistent)
	hostname := filepath.Join(root, stage.MountsDir, "state/etc/1/fs/hostname")
	conf := filepath.Join(root, stage.MountsDir, "state/etc/1/fs/app.conf")
	exists := func(p string) bool { _, err := os.Stat(p); return err == nil }
	say := func(want string, words ...string) {
		t.Helper()
		code, out := onMachine(t, root, words...)
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("veneer %s: exit %d, want 0 and %q:\n%s", strings.Join(words, " "), code, want, out)
		}
	}
	say("/etc but hostname", "reset", "--dry-run", "--keep", "identity")
	if requests, _, _ := d.Requests(); len(requests) != 0 {
		t.Fatal("a dry run filed a request")
	}
	say("There are no snapshots", "snapshot", "list")
	say("Would copy /etc", "snapshot", "--dry-run")
	say("first: ", "snapshot", "first", "--why", "before all")
	say("before all", "snapshot", "list")
	say("the next boot carries it out", "reset", "--keep", "identity,snapshots")
	say("on file", "journal")
	boots(t, d)
	if exists(conf) || !exists(hostname) {
		t.Errorf("after the reset: app.conf is there: %v, the hostname: %v", exists(conf), exists(hostname))
	}
	say("can be undone", "journal")
	say("would undo", "undo", "--dry-run")
	say("the next boot undoes", "undo", "1")
	boots(t, d)
	if !exists(conf) {
		t.Error("after the undo app.conf is not there")
	}
	say("was undone", "journal")
	say("No longer to be undone", "bless")
	say("deployment 1 is good", "bless")
	say("To be deleted: ", "cleanup", "--dry-run")
	say("deleted.", "cleanup")
	if err := os.Remove(conf); err != nil {
		t.Fatal(err)
	}
	say("would put /etc of first", "snapshot", "restore", "first", "--dry-run")
	say("the next boot returns to first", "snapshot", "restore", "first")
	boots(t, d)
	if !exists(conf) {
		t.Error("after the return to the snapshot app.conf is not there")
	}
	say("Deleted first", "snapshot", "delete", "first")

	code, out := onMachine(t, root, "journal", "--json")
	var entries []journalEntry
	if err := json.Unmarshal([]byte(out), &entries); err != nil || code != 0 || len(entries) != 4 {
		t.Errorf("journal --json: exit %d, %v, %d entries:\n%s", code, err, len(entries), out)
	}
	for _, words := range [][]string{{"reset", "--json"}, {"snapshot", "list", "--json"}, {"bless", "--json"}, {"cleanup", "--json"}, {"snapshot", "second", "--json"}, {"reset", "--dry-run", "--json"}} {
		code, out := onMachine(t, root, words...)
		var v any
		if err := json.Unmarshal([]byte(out), &v); err != nil || code != 0 {
			t.Errorf("veneer %s: exit %d, %v:\n%s", strings.Join(words, " "), code, err, out)
		}
	}
}

func TestARequestIsTakenBack(t *testing.T) {
	root, d := keptMachine(t, stage.StatePersistent)
	onMachine(t, root, "reset")
	requests, _, err := d.Requests()
	if err != nil || len(requests) != 1 {
		t.Fatal(requests, err)
	}
	if code, out := onMachine(t, root, "reset", "--cancel", requests[0].ID); code != 0 {
		t.Error(out)
	}
	if requests, _, _ = d.Requests(); len(requests) != 0 {
		t.Error("the request is still on file")
	}
}

func TestWhatIsOnFileIsTakenBackAndOrderedOnce(t *testing.T) {
	root, d := keptMachine(t, stage.StatePersistent)
	say := func(code int, wants []string, words ...string) {
		t.Helper()
		got, out := onMachine(t, root, words...)
		for _, want := range append(wants, "") {
			if got != code || !strings.Contains(out, want) {
				t.Errorf("veneer %s: exit %d, want %d and %q:\n%s", strings.Join(words, " "), got, code, want, out)
			}
		}
	}
	filed := func() (ids []string) {
		t.Helper()
		requests, _, err := d.Requests()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range requests {
			ids = append(ids, r.ID)
		}
		return ids
	}
	say(0, nil, "reset", "--scope", "etc")
	ids := filed()
	if len(ids) != 1 {
		t.Fatal(ids)
	}
	cancel := "veneer reset --cancel " + ids[0]
	say(exitFailed, []string{"there is nothing to undo", "reset etc", cancel}, "undo")
	boots(t, d)
	say(0, []string{"reset --cancel"}, "reset", "--scope", "data")
	say(0, []string{"Before that it carries out", "reset data", "reset --cancel " + filed()[0]}, "undo")
	if ids = filed(); len(ids) != 2 {
		t.Fatal(ids)
	}
	say(exitFailed, []string{"undoes", "already", "veneer reset --cancel " + ids[1]}, "undo")
	say(exitFailed, []string{"already"}, "undo", "1")
	say(exitFailed, []string{"already"}, "undo", "--dry-run")
	if got := filed(); len(got) != 2 {
		t.Errorf("on file: %v", got)
	}
	say(0, nil, "reset", "--cancel", ids[0])
	say(0, nil, "reset", "--cancel", ids[1])
	say(0, nil, "snapshot", "first", "--data")
	say(0, []string{"reset --cancel", "veneer undo"}, "snapshot", "restore", "first")
	say(exitFailed, []string{"snapshot first is not deleted", "veneer reset --cancel " + filed()[0]}, "snapshot", "delete", "first")
	say(exitFailed, []string{"snapshot first is not deleted"}, "snapshot", "delete", "first", "--dry-run")
	say(0, nil, "reset", "--cancel", filed()[0])
	say(0, []string{"Deleted first"}, "snapshot", "delete", "first")
}

func TestTheVerbsOfAStateRefuseWhatTheyCannotDo(t *testing.T) {
	persistent, d := keptMachine(t, stage.StatePersistent)
	if _, err := d.CreateSnapshot(context.Background(), state.SnapshotSpec{Name: "first", Serial: "1", Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	none, _ := keptMachine(t, stage.StateNone)
	lost, _ := keptMachine(t, stage.StateEphemeral)
	for _, c := range []struct {
		name, root string
		words      []string
		code       int
		want       string
	}{
		{"a machine without a state", none, []string{"reset"}, exitFailed, "nothing is kept on this machine: each boot is the first"},
		{"a machine that lost its state", lost, []string{"undo"}, exitFailed, `although it was asked for: "the disk\nis gone"`},
		{"a machine of others", t.TempDir(), []string{"bless"}, exitFailed, "not booted by Veneer"},
		{"nothing to undo", persistent, []string{"undo"}, exitFailed, "there is nothing to undo"},
		{"a number that is none", persistent, []string{"undo", "7"}, exitFailed, "the journal has no number 7"},
		{"no snapshot of that name", persistent, []string{"snapshot", "restore", "x"}, exitFailed, `there is no snapshot "x"`},
		{"the whole at once", persistent, []string{"snapshot", "restore", "first", "/"}, exitUsage, "only the next boot can return to the whole"},
		{"a path in no snapshot", persistent, []string{"snapshot", "restore", "x", "/etc/a"}, exitFailed, `there is no snapshot "x"`},
		{"an empty path", persistent, []string{"snapshot", "restore", "x", ""}, exitUsage, "the path is empty"},
		{"a word behind the path", persistent, []string{"snapshot", "restore", "x", "/etc", "/var"}, exitUsage, "at most 3"},
		{"a path of which nothing is kept", persistent, []string{"reset", "--scope", "/nope"}, exitFailed, "nothing is kept at /nope"},
		{"an unknown scope", persistent, []string{"reset", "--scope", "everything"}, exitUsage, `scope "everything"`},
		{"an unknown thing to keep", persistent, []string{"reset", "--keep", "passwords"}, exitUsage, `keep "passwords"`},
		{"a name for the list", persistent, []string{"snapshot", "list", "x"}, exitUsage, `unexpected "x"`},
		{"no name to delete", persistent, []string{"snapshot", "delete"}, exitUsage, "want the name of a snapshot"},
		{"a name that is a path", persistent, []string{"snapshot", "../x"}, exitUsage, `snapshot "../x"`},
		{"a negative limit", persistent, []string{"cleanup", "--limit", "-1"}, exitUsage, "negative"},
		{"words behind a verb that takes none", persistent, []string{"bless", "me"}, exitUsage, "bless"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if code, out := onMachine(t, c.root, c.words...); code != c.code || !strings.Contains(out, c.want) {
				t.Errorf("veneer %s: exit %d, want %d and %q:\n%s", strings.Join(c.words, " "), code, c.code, c.want, out)
			}
		})
	}
}

// A path of /etc, an overlay, and one of /var, bound, return to a snapshot on the running machine; a data place that the snapshot
// has not is refused.
func TestAPathReturnsToASnapshotAtOnce(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	root, _ := keptMachine(t, stage.StatePersistent)
	kept := filepath.Join(root, stage.MountsDir, "state")
	for _, dir := range []string{"base/etc", "etc", "var"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write("base/etc/motd", "hello")
	layers := overlay.Layers{Lowers: []string{root + "/base/etc"}, Upper: kept + "/etc/1/fs", Work: kept + "/etc/1/work"}
	if err := os.Mkdir(layers.Work, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, op := range []mount.Op{mount.Mount{Type: "overlay", Source: "o", Target: root + "/etc", Data: layers.Data()},
		mount.Mount{Source: kept + "/data/var", Target: root + "/var", Flags: unix.MS_BIND}} {
		if err := (mount.Kernel{}).Apply(op); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = (mount.Kernel{}).Apply(op.Undo()) })
	}
	write("proc/self/mountinfo", "1 0 0:1 / / rw - overlay o rw\n2 1 0:2 / /etc rw - overlay o rw\n3 1 0:3 / /var rw - ext4 /dev/x rw\n")
	rec := stage.Record{Format: stage.RecordFormat, Deployment: stage.Deployment{Serial: "1"}, State: stage.State{Kind: stage.StatePersistent, Mount: stage.MountsDir + "/state"},
		Upper: stage.Upper{Kind: "tmpfs", Mount: stage.UpperDir}, Images: []stage.Attached{{Role: images.RoleBase, Name: "b", ID: strings.Repeat("b", 64), Mount: "/base"}},
		Rules: []stage.Rule{{Path: "/etc", Action: "merge", Form: "overlay", Source: stage.MountsDir + "/state/etc/1"}, {Path: "/var", Action: "persist", Form: "bind", Source: stage.MountsDir + "/state/data/var"}}}
	write(stage.RecordPath, string(rec.Encode()))
	say := func(code int, want string, words ...string) {
		t.Helper()
		got, out := onMachine(t, root, words...)
		if got != code || !strings.Contains(out, want) {
			t.Errorf("veneer %s: exit %d, want %d and %q:\n%s", strings.Join(words, " "), got, code, want, out)
		}
	}
	say(0, "uppers: ", "snapshot", "uppers")
	say(0, "all: ", "snapshot", "all", "--data")
	write("etc/motd", "changed")
	write("etc/newer", "")
	write("var/lib/app/db", "lost")
	say(0, "/etc/motd: would be replaced\n/etc/newer: would be removed\n", "snapshot", "restore", "uppers", "/etc", "--dry-run")
	say(0, `"what": "replaced"`, "snapshot", "restore", "uppers", "/etc/motd", "--json")
	say(0, "/etc/motd is what it is in uppers", "snapshot", "restore", "uppers", "/etc/motd")
	say(exitFailed, "/var is not in the snapshot", "snapshot", "restore", "uppers", "/var/lib/app/db")
	say(0, "/var/lib/app/db: replaced", "snapshot", "restore", "all", "/var/lib")
	for name, want := range map[string]string{"etc/motd": "hello", "etc/newer": "", "var/lib/app/db": "rows", stage.MountsDir + "/state/data/var/lib/app/db": "rows"} {
		if text, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(text) != want {
			t.Errorf("%s has %q, %v; want %q", name, text, err, want)
		}
	}
}
