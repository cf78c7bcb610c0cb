package report

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"veneer/overlay/changes"
	"veneer/stage"
)

// system is the root of a device on plain directories, with its record and its mount table.
func system(t *testing.T, table string) (string, *Report) {
	t.Helper()
	root := t.TempDir()
	r := kept()
	r.Images[0].Mount, r.Images[1].Mount = "/run/initramfs/veneer/tools", "/run/initramfs/veneer/base"
	r.Rules = append(r.Rules, stage.Rule{Path: "/usr", Action: "read-only", Form: "overlay", Origin: "site"}, stage.Rule{Path: "/tmp", Action: "ephemeral", Origin: "base"},
		stage.Rule{Path: "/srv", Action: "ephemeral", Form: "overlay", Source: "/run/initramfs/veneer/upper/ephemeral/srv", Upper: "tmpfs", Origin: "base"})
	put(t, root, "run/initramfs/veneer/base/etc/passwd", "run/initramfs/veneer/base/var/seed", "run/initramfs/veneer/base/usr/bin/sh", "run/initramfs/veneer/tools/usr/bin/veneer",
		"run/initramfs/veneer/upper/upper/new", "run/initramfs/veneer/upper/ephemeral/srv/fs/x", "run/initramfs/veneer/state/etc/12/fs/hosts", "run/initramfs/veneer/state/data/var/lib/y")
	place(t, root, r.Record.Encode())
	if table != "" {
		file := filepath.Join(root, "proc/self/mountinfo")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(table), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Read(root)
	if err != nil {
		t.Fatal(err)
	}
	return root, r
}

func put(t *testing.T, root string, names ...string) {
	t.Helper()
	for _, name := range names {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(filepath.Base(name)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// mountsOf is /proc/self/mountinfo for mounts of TARGET TYPE.
func mountsOf(mounts ...string) string {
	var b strings.Builder
	for i, m := range mounts {
		target, kind, _ := strings.Cut(m, " ")
		b.WriteString(strings.Join([]string{string(rune('1' + i)), "0", "0:1", "/", target, "rw", "-", kind, kind, "rw\n"}, " "))
	}
	return b.String()
}

func listed(t *testing.T, m *changes.Machine) []string {
	t.Helper()
	var got []string
	for c, err := range m.Changes(t.Context(), changes.Options{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, c.String())
	}
	return got
}

func TestTheMachineIsThatOfTheRecordAndTheMountTable(t *testing.T) {
	everything := []string{"A /etc/hosts", "A /new", "A /srv/", "A /srv/x", "A /var/lib/", "A /var/lib/y", "D /var/seed"}
	all := []string{"/ overlay", "/etc overlay", "/var ext4", "/usr overlay", "/srv overlay", "/opt tmpfs"}
	cases := []struct {
		name  string
		table string
		want  []string
		notes []string
	}{
		{"without a table each rule is in force", "", append(everything, "# /opt  hidden by a mask rule of the site"), nil},
		{"foreign mounts are left out, each once", mountsOf(append(all, "/proc proc", "/proc/sys/fs/binfmt_misc autofs", "/home ext4")...),
			append(everything, "# /opt  hidden by a mask rule of the site", "# /proc  a mount of its own (proc)", "# /home  a mount of its own (ext4)"), nil},
		{"a rule that was unmounted", mountsOf("/ overlay", "/etc overlay", "/srv overlay", "/opt tmpfs"), append(everything[:4:4], "# /opt  hidden by a mask rule of the site"),
			[]string{"the rule for /var is not in force now: nothing is mounted there"}},
		{"a rule that is covered", mountsOf(append(all, "/etc tmpfs")...), append(everything[1:7:7], "# /opt  hidden by a mask rule of the site", "# /etc  a mount of its own (overlay)"), nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			root, r := system(t, c.table)
			m, err := r.Machine(root)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, listed(t, m)); diff != "" {
				t.Errorf("Changes (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.notes, m.Notes); diff != "" {
				t.Errorf("Notes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatSurvivesFollowsFromTheRecord(t *testing.T) {
	root, r := system(t, "")
	for path, want := range map[string]bool{"/etc/hosts": true, "/var/lib/y": true, "/new": false, "/srv/x": false, "/usr/bin/sh": true} {
		m, err := r.Machine(root)
		if err != nil {
			t.Fatal(err)
		}
		a, err := m.Why(path)
		if err != nil || a.Survives.Reboot.Kept != want {
			t.Errorf("Why(%s) = %+v, %v, want kept %v", path, a.Survives, err, want)
		}
	}
	r.Record.State.Kind, r.Record.State.Why = stage.StateEphemeral, "gone"
	m, err := r.Machine(root)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := m.Why("/etc/hosts"); err != nil || a.Survives.Reboot.How != "no: the state is ephemeral (gone)" {
		t.Errorf("Why = %+v, %v", a.Survives, err)
	}
}

func TestASnapshotTakesThePlaceOfTheBase(t *testing.T) {
	root, r := system(t, "")
	const state = "run/initramfs/veneer/state/"
	// It was made with another deployment, before /var held anything else.
	put(t, root, state+"snapshots/before/snapshot.json", state+"snapshots/empty/snapshot.json", state+"snapshots/before/etc/11/fs/hosts", state+"snapshots/before/etc/11/fs/gone", state+"snapshots/before/data/var/seed", state+"snapshots/torn/etc/12/fs/x")
	for name, text := range map[string]string{"before": `{"covers": ["etc", "data"]}`, "empty": `{"covers": ["data"]}`} {
		if err := os.WriteFile(filepath.Join(root, state, "snapshots", name, "snapshot.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m, err := r.Machine(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Against(m, root, "before"); err != nil {
		t.Fatal(err)
	}
	want := []string{"D /etc/gone", "A /var/lib/", "A /var/lib/y", "D /var/seed",
		"# /opt  hidden by a mask rule of the site", "# /  not in the snapshot", "# /usr  not in the snapshot", "# /srv  not in the snapshot"}
	if diff := cmp.Diff(want, listed(t, m)); diff != "" {
		t.Errorf("Changes (-want +got):\n%s", diff)
	}
	if m, err = r.Machine(root); err != nil {
		t.Fatal(err)
	}
	if err := r.Against(m, root, "empty"); err != nil {
		t.Fatal(err)
	}
	// Of the data there was nothing then, not even what it began as; of /etc the snapshot says nothing.
	want = []string{"A /var/", "A /var/lib/", "A /var/lib/y", "# /opt  hidden by a mask rule of the site", "# /  not in the snapshot",
		"# /etc  not in the snapshot", "# /usr  not in the snapshot", "# /srv  not in the snapshot"}
	if diff := cmp.Diff(want, listed(t, m)); diff != "" {
		t.Errorf("Changes (-want +got):\n%s", diff)
	}
	for _, name := range []string{"none", "torn", "..", ""} {
		if err := r.Against(m, root, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Against(%s) = %v, want ErrNotExist", name, err)
		}
	}
}

func TestABlessedBootIsKnownByItsID(t *testing.T) {
	root, r := system(t, "")
	put(t, root, "proc/sys/kernel/random/boot_id")
	for content, want := range map[string]bool{`{"boot": "boot_id"}`: true, `{"boot": "other"}`: false, "junk": false} {
		if err := os.WriteFile(filepath.Join(root, "run/initramfs/veneer/state/blessed"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if l := live(root, r.Record); l.Blessed == nil || *l.Blessed != want {
			t.Errorf("%s: blessed = %v, want %v", content, l.Blessed, want)
		}
	}
}
