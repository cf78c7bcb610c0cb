package identity

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"veneer/overlay/rule"
)

// machine is a merged root as the init makes one: a base that cannot be written, an upper on a tmpfs that is new at each boot, and
// where /etc is kept an overlay of its own, whose upper stays.
type machine struct {
	*bed
	dir, base string
	boots     int
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for its mounts")
	}
	m := &machine{bed: newBed(t), dir: t.TempDir()}
	m.put("etc/machine-id", "uninitialized\n")
	m.put("etc/hostname", "veneer\n")
	m.put("etc/ssh/ssh_host_rsa_key", "baked")
	m.put("usr/lib/systemd/systemd", "")
	m.put("usr/lib/systemd/system/"+SaveUnit, "")
	m.base = m.root
	m.env.Images = []string{m.base}
	tmpfs(t, m.dir)
	return m
}

func tmpfs(t *testing.T, at string) {
	t.Helper()
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
}

// next is the merged root of the next boot.
func (m *machine) next(etcKept bool) {
	m.t.Helper()
	m.boots++
	at := filepath.Join(m.dir, fmt.Sprint(m.boots))
	m.root = filepath.Join(at, "root")
	m.stack(m.base, at, m.root)
	m.env.Kept = Kept{}
	if etcKept {
		m.env.Kept.Rules = []rule.Rule{{Path: "/etc", Action: rule.Merge}}
		m.stack(filepath.Join(m.base, "etc"), filepath.Join(m.dir, "etc"), filepath.Join(m.root, "etc"))
	}
}

func (m *machine) stack(lower, at, target string) {
	m.t.Helper()
	upper, work := filepath.Join(at, "fs"), filepath.Join(at, "work")
	if err := errors.Join(os.MkdirAll(upper, 0o755), os.MkdirAll(work, 0o755), os.MkdirAll(target, 0o755)); err != nil {
		m.t.Fatal(err)
	}
	if err := unix.Mount("overlay", target, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
}

// everything is what a machine with a state has by default, and its hostname.
var everything = []Setting{{MachineID, Persist}, {DBus, Generate}, {Hostname, Persist}, {SSHHostKeys, Persist}, {RandomSeed, Persist}, {Clock, Persist}}

// systemdBoots does what systemd does with a machine-id, see machine_id_setup and machine_id_commit in its sources.
func (m *machine) systemdBoots() (first bool) {
	m.t.Helper()
	if first = m.get("etc/machine-id") == "uninitialized\n"; !first {
		return false
	}
	info, err := os.Lstat(filepath.Join(m.root, "var/lib/dbus/machine-id"))
	if err != nil || !info.Mode().IsRegular() {
		m.t.Fatalf("systemd finds no ID: %v, %v", info, err)
	}
	m.put("etc/machine-id", m.get("var/lib/dbus/machine-id"))
	return true
}

func TestIdentityOverThreeBootsAndABaseChange(t *testing.T) {
	for _, etcKept := range []bool{false, true} {
		t.Run(fmt.Sprintf("etc-kept-%t", etcKept), func(t *testing.T) {
			m := newMachine(t)
			m.next(etcKept)
			m.boot(m.store(), everything...)
			if !m.systemdBoots() {
				t.Error("the first boot is none to systemd")
			}
			id := m.get("etc/machine-id")
			m.put("etc/ssh/ssh_host_ed25519_key", "own")
			m.put("etc/hostname", "till-7\n")
			m.save(true, everything...)

			m.next(etcKept)
			m.boot(m.store(), everything...)
			if m.systemdBoots() {
				t.Error("the second boot is a first one to systemd")
			}
			m.expect(m.get("etc/machine-id")+m.get("etc/hostname")+m.get("etc/ssh/ssh_host_ed25519_key"), id+"till-7\nown")
			m.expect(m.get("etc/ssh/ssh_host_rsa_key")[:1], "!")

			// A new base that brings an empty machine-id, another hostname and another baked key.
			if err := errors.Join(os.WriteFile(filepath.Join(m.base, "etc/machine-id"), nil, 0o444), os.WriteFile(filepath.Join(m.base, "etc/hostname"), []byte("veneer2\n"), 0o644),
				os.WriteFile(filepath.Join(m.base, "etc/ssh/ssh_host_rsa_key"), []byte("baked again"), 0o600)); err != nil {
				t.Fatal(err)
			}
			m.next(etcKept)
			m.boot(m.store(), everything...)
			m.expect(m.get("etc/machine-id")+m.get("etc/hostname")+m.get("etc/ssh/ssh_host_ed25519_key"), id+"till-7\nown")
			m.expect(m.get("etc/ssh/ssh_host_rsa_key")[:1], "!")
		})
	}
}

// After a reset of /etc that keeps the identity, the machine is the same and has no first boot; after one of all, it is another.
func TestIdentityAndReset(t *testing.T) {
	m := newMachine(t)
	m.next(true)
	m.boot(m.store(), everything...)
	m.systemdBoots()
	id := m.get("etc/machine-id")
	m.save(true, everything...)

	m.reset("etc")
	m.next(true)
	m.boot(m.store(), everything...)
	m.expect(m.get("etc/machine-id"), id)

	m.reset("etc")
	if err := os.RemoveAll(m.state); err != nil {
		t.Fatal(err)
	}
	m.next(true)
	if got := m.boot(m.store(), everything...); !strings.Contains(got, "new, first boot") {
		t.Error(got)
	}
	if !m.systemdBoots() || m.get("etc/machine-id") == id {
		t.Error("a machine that was reset is the same as before")
	}
}

// reset is a fresh upper, as a boot after `veneer reset` has it.
func (m *machine) reset(upper string) {
	m.t.Helper()
	unix.Unmount(filepath.Join(m.root, "etc"), unix.MNT_DETACH)
	if err := os.RemoveAll(filepath.Join(m.dir, upper)); err != nil {
		m.t.Fatal(err)
	}
}

// On a root that cannot be written each preset says so, and none keeps another from its work.
func TestARootThatCannotBeWritten(t *testing.T) {
	m := newMachine(t)
	m.next(false)
	if err := unix.Mount("", m.root, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	done, err := Apply(m.root, m.store(), everything, m.env)
	if err != nil || len(done) != len(Names()) {
		t.Fatalf("Apply() = %v, %v", done, err)
	}
	failed := ""
	for _, d := range done {
		if errors.Is(d.Err, unix.EROFS) {
			failed += " " + d.Name
		}
	}
	m.expect(failed, " machine-id ssh-host-keys")
	if len(m.kept("random-seed")) != seedSize {
		t.Error("the seed was not made")
	}
}
