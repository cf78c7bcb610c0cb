package identity

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"veneer/overlay/rule"
)

// fake is a kernel without randomness: it counts.
type fake struct {
	now      time.Time
	unready  bool
	count    byte
	said     []string
	mixed    func(b []byte, credit int) // looks at what is there when something is mixed in
	hostname string
}

func (f *fake) Random(b []byte) (bool, error) {
	for i := range b {
		f.count++
		b[i] = f.count
	}
	return !f.unready, nil
}

func (f *fake) Mix(b []byte, credit int) error {
	if f.mixed != nil {
		f.mixed(b, credit)
	}
	f.said = append(f.said, fmt.Sprintf("mix %d bytes, credit %d", len(b), credit))
	return nil
}

func (f *fake) Now() time.Time { return f.now }

func (f *fake) SetTime(t time.Time) error {
	f.said = append(f.said, "time "+t.UTC().Format(time.RFC3339))
	return nil
}

func (f *fake) SetHostname(name string) error { f.hostname = name; return nil }

// bed is a merged root and a state in directories of their own.
type bed struct {
	t           *testing.T
	root, state string
	sys         *fake
	env         Env
}

func newBed(t *testing.T) *bed {
	dir := t.TempDir()
	b := &bed{t: t, root: filepath.Join(dir, "root"), state: filepath.Join(dir, "identity"), sys: &fake{now: time.Unix(1_700_000_000, 0)}}
	b.env = Env{Name: "kiosk", Built: time.Unix(1_600_000_000, 0), System: b.sys}
	b.put("etc/ssh/sshd_config", "")
	b.put("var/lib/dbus/x", "")
	return b
}

func (b *bed) put(rel, content string) {
	b.t.Helper()
	p := filepath.Join(b.root, rel)
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(content), 0o644)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) get(rel string) string {
	text, err := os.ReadFile(filepath.Join(b.root, rel))
	if err != nil {
		return "!" + errors.Unwrap(err).Error()
	}
	return string(text)
}

func (b *bed) kept(rel string) string {
	text, err := os.ReadFile(filepath.Join(b.state, rel))
	if err != nil {
		return "!" + errors.Unwrap(err).Error()
	}
	return string(text)
}

func (b *bed) store() *Store {
	b.t.Helper()
	s, err := OpenStore(b.state)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(s.Close)
	return s
}

// boot applies settings, with inherit for all others, and returns what became of those.
func (b *bed) boot(store *Store, settings ...Setting) string {
	b.t.Helper()
	all := only(settings)
	done, err := Apply(b.root, store, all, b.env)
	if err != nil {
		b.t.Fatal(err)
	}
	var said []string
	for _, d := range done {
		for _, s := range settings {
			if d.Name == s.Name {
				said = append(said, d.What)
				if d.Err != nil {
					said = append(said, "("+d.Err.Error()+")")
				}
			}
		}
	}
	return strings.Join(said, "; ")
}

func only(settings []Setting) []Setting {
	var all []Setting
	for _, name := range Names() {
		s := Setting{name, Inherit}
		for _, asked := range settings {
			if asked.Name == name {
				s = asked
			}
		}
		all = append(all, s)
	}
	return all
}

func (b *bed) save(booted bool, settings ...Setting) {
	b.t.Helper()
	done, err := Save(b.root, b.store(), settings, b.env, booted)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, d := range done {
		if d.Err != nil {
			b.t.Error(d.Err)
		}
	}
}

func (b *bed) expect(got, want string) {
	b.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		b.t.Errorf("(-want +got):\n%s", diff)
	}
}

const idFirst = "0102030405064708890a0b0c0d0e0f10\n" // what the counting kernel makes

func TestPersistKeepsTheIDThatTheFirstBootHad(t *testing.T) {
	b := newBed(t)
	b.put("etc/machine-id", "uninitialized\n")
	b.put("usr/lib/systemd/systemd", "")
	b.put("usr/lib/systemd/system/"+SaveUnit, "")
	id := Setting{MachineID, Persist}

	b.expect(b.boot(b.store(), id), "new, first boot")
	b.expect(b.get("etc/machine-id"), "uninitialized\n")
	b.expect(b.get("var/lib/dbus/machine-id"), idFirst)
	b.expect(b.kept("machine-id"), idFirst)

	// The power is cut before the boot is complete: it is a first boot still, of the same machine.
	b.expect(b.boot(b.store(), id), "kept, first boot")
	b.expect(b.get("etc/machine-id"), "uninitialized\n")
	b.save(false, id)
	b.expect(b.boot(b.store(), id), "kept, first boot")

	b.save(true, id)
	b.expect(b.boot(b.store(), id, Setting{DBus, Generate}), "kept; the machine-id")
	b.expect(b.get("etc/machine-id"), idFirst)
	if got, err := os.Readlink(filepath.Join(b.root, "var/lib/dbus/machine-id")); got != "/etc/machine-id" {
		t.Errorf("the ID of D-Bus is %q, %v", got, err)
	}
}

func TestABaseWithoutSystemdHasNoFirstBootToComplete(t *testing.T) {
	b := newBed(t)
	b.expect(b.boot(b.store(), Setting{MachineID, Persist}), "new, first boot")
	b.expect(b.boot(b.store(), Setting{MachineID, Persist}), "kept")
	b.expect(b.get("etc/machine-id"), idFirst)
}

func TestAnIDInTheBaseIsNotUsed(t *testing.T) {
	b := newBed(t)
	b.put("etc/machine-id", string(idB)+"\n")
	b.put("var/lib/dbus/machine-id", string(idB)+"\n")
	b.env.Images = []string{copyOf(t, b.root)}
	b.expect(b.boot(nil, Setting{MachineID, PerBoot}, Setting{DBus, Generate}), "new for this boot; the machine-id")
	b.expect(b.get("etc/machine-id"), idFirst)
	if got, err := os.Readlink(filepath.Join(b.root, "var/lib/dbus/machine-id")); got != "/etc/machine-id" {
		t.Errorf("the ID of D-Bus is %q, %v", got, err)
	}
}

func TestPersistOnAVolatileMachineIsLoud(t *testing.T) {
	b := newBed(t)
	b.put("etc/ssh/ssh_host_rsa_key", "baked")
	lost := "; (%s: nothing is kept on this machine: persist needs a state)"
	want := ""
	for _, s := range []struct{ name, what string }{{Clock, "right"}, {RandomSeed, "none"}, {MachineID, "new, first boot"}, {Hostname, "as the base has it"},
		{SSHHostKeys, "new for this boot"}, {NetworkManager, "as the base has it"}, {Bluetooth, "as the base has it"}} {
		want += "; " + s.what + fmt.Sprintf(lost, s.name)
	}
	got := b.boot(nil, Setting{Clock, Persist}, Setting{RandomSeed, Persist}, Setting{MachineID, Persist}, Setting{Hostname, Persist},
		Setting{SSHHostKeys, Persist}, Setting{NetworkManager, Persist}, Setting{Bluetooth, Persist})
	b.expect(got, want[2:])
}

func TestAPlatformWithoutAnIDIsTold(t *testing.T) {
	b := newBed(t)
	want := "(machine-id: " + ErrNoPlatform.Error() + ")"
	b.expect(b.boot(b.store(), Setting{MachineID, Derived}), "new, first boot; "+want)
	b.expect(b.boot(b.store(), Setting{MachineID, Derived}), "kept; "+want)
	b.env.Platform = "board"
	b.expect(b.boot(b.store(), Setting{MachineID, Derived}), "derived from the platform's")
	b.expect(b.kept("machine-id"), string(DeriveID("board"))+"\n")
}

func TestHostKeysOfTheBaseAreHiddenAndTheMachinesOwnKept(t *testing.T) {
	b := newBed(t)
	b.put("etc/ssh/ssh_host_rsa_key", "baked")
	b.put("etc/ssh/ssh_host_rsa_key.pub", "baked, public")
	b.put("etc/ssh/moduli", "no key")
	image := copyOf(t, b.root)
	b.env.Images = []string{image}
	keys := Setting{SSHHostKeys, Persist}

	b.expect(b.boot(b.store(), keys), "to be made")
	b.expect(b.get("etc/ssh/ssh_host_rsa_key")[:1], "!")
	b.expect(b.get("etc/ssh/moduli"), "no key")
	if want, err := WantsHostKeys(b.root, []Setting{keys}); !want || err != nil {
		t.Errorf("WantsHostKeys() = %t, %v", want, err)
	}
	b.put("etc/ssh/ssh_host_ed25519_key", "own")
	b.put("etc/ssh/ssh_host_ed25519_key.pub", "own, public")
	b.save(false, keys)
	b.expect(b.kept("ssh/ssh_host_ed25519_key"), "own")

	// The next boot begins with the base again.
	b.root = copyOf(t, image)
	b.expect(b.boot(b.store(), keys), "kept")
	b.expect(b.get("etc/ssh/ssh_host_ed25519_key"), "own")
	b.expect(b.get("etc/ssh/ssh_host_rsa_key")[:1], "!")
	for name, mode := range map[string]os.FileMode{"ssh_host_ed25519_key": 0o600, "ssh_host_ed25519_key.pub": 0o644} {
		if info, err := os.Stat(filepath.Join(b.root, "etc/ssh", name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if want, _ := WantsHostKeys(b.root, []Setting{keys}); want {
		t.Error("keys are wanted, though there are some")
	}

	// Keys that were changed by hand where /etc is kept are the newer ones.
	b.put("etc/ssh/ssh_host_ed25519_key", "changed by hand")
	b.env.Kept.Rules = []rule.Rule{{Path: "/etc", Action: rule.Merge}}
	b.expect(b.boot(b.store(), keys), "from the kept /etc")
	b.expect(b.kept("ssh/ssh_host_ed25519_key"), "changed by hand")

	// Somebody deletes all of them: the state keeps what it has.
	for _, n := range []string{"ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"} {
		if err := os.Remove(filepath.Join(b.root, "etc/ssh", n)); err != nil {
			t.Fatal(err)
		}
	}
	b.save(false, keys)
	b.expect(b.kept("ssh/ssh_host_ed25519_key"), "changed by hand")
	b.expect(b.boot(b.store(), Setting{SSHHostKeys, Generate}), "new for this boot")
}

func TestSavesAtTheSameTimeWaitForEachOther(t *testing.T) {
	b := newBed(t)
	for _, n := range []string{"ssh_host_ed25519_key", "ssh_host_rsa_key", "ssh_host_ecdsa_key"} {
		b.put("etc/ssh/"+n, "own")
	}
	all := []Setting{{Clock, Persist}, {RandomSeed, Persist}, {SSHHostKeys, Persist}}
	failed := make(chan error, 8)
	for range cap(failed) {
		s, env := b.store(), b.env
		env.System = &fake{}
		go func() {
			done, err := Save(b.root, s, all, env, true)
			for _, d := range done {
				err = errors.Join(err, d.Err)
			}
			failed <- err
		}()
	}
	for range cap(failed) {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}

func TestHostnames(t *testing.T) {
	b := newBed(t)
	b.put("etc/hostname", "veneer\n")
	b.env.Images = []string{copyOf(t, b.root)}
	name := Setting{Hostname, Persist}
	b.expect(b.boot(b.store(), name), "as the base has it")
	b.save(false, name)
	b.expect(b.kept("hostname")[:1], "!") // the base's may change with it
	b.put("etc/hostname", "till-7\n")
	b.save(false, name)
	b.put("etc/hostname", "veneer\n")
	b.expect(b.boot(b.store(), name), "kept")
	b.expect(b.get("etc/hostname")+b.sys.hostname, "till-7\ntill-7")
	b.put("etc/hostname", "veneer\n")
	b.save(false, name)
	b.expect(b.boot(b.store(), name), "as the base has it")

	b.expect(b.boot(b.store(), Setting{MachineID, PerBoot}, Setting{Hostname, Generate}), "new for this boot, first boot; kiosk-010203")
	b.expect(b.get("etc/hostname"), "kiosk-010203\n")
}

func TestGarbageInTheStateIsNotUsed(t *testing.T) {
	b := newBed(t)
	b.put("etc/hostname", "veneer\n")
	b.env.Images = []string{copyOf(t, b.root)}
	s := b.store()
	for name, text := range map[string]string{"machine-id": strings.Repeat("0", 32), "hostname": "a b\n", "random-seed": "short"} {
		if err := s.write(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.expect(b.boot(s, Setting{RandomSeed, Persist}, Setting{MachineID, Persist}, Setting{Hostname, Persist}), "made; new, first boot; as the base has it")
}

func TestNoLinkLeadsOut(t *testing.T) {
	b := newBed(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "machine-id"), []byte(string(idB)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// In the merged root a link is followed with the root as its root; in the state it is an error.
	if err := errors.Join(os.Remove(filepath.Join(b.root, "var/lib/dbus/x")), os.Remove(filepath.Join(b.root, "var/lib/dbus")),
		os.Symlink(outside, filepath.Join(b.root, "var/lib/dbus")), os.Symlink("../../../../../etc-real", filepath.Join(b.root, "link")),
		os.Rename(filepath.Join(b.root, "etc"), filepath.Join(b.root, "etc-real")), os.Symlink("/link", filepath.Join(b.root, "etc"))); err != nil {
		t.Fatal(err)
	}
	s := b.store()
	if err := os.Symlink(filepath.Join(outside, "machine-id"), filepath.Join(b.state, "machine-id")); err != nil {
		t.Fatal(err)
	}
	if got := b.boot(s, Setting{MachineID, Persist}); !strings.HasPrefix(got, "new, first boot") {
		t.Error(got)
	}
	if text, err := os.ReadFile(filepath.Join(outside, "machine-id")); err != nil || string(text) != string(idB)+"\n" {
		t.Errorf("outside: %q, %v", text, err)
	}
	b.boot(s, Setting{MachineID, Persist})
	b.expect(b.get("etc-real/machine-id"), b.kept("machine-id"))
}

func TestALeftoverOfAnInterruptedWriteIsNoObstacle(t *testing.T) {
	b := newBed(t)
	s := b.store()
	if err := os.WriteFile(filepath.Join(b.state, ".machine-id.veneer"), []byte("torn"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.boot(s, Setting{MachineID, Persist})
	b.expect(b.kept("machine-id"), idFirst)
	left, err := os.ReadDir(b.state)
	if err != nil || len(left) != 1 {
		t.Errorf("in the state: %v, %v", left, err)
	}
}

func TestNothingIsWrittenThatIsThereAlready(t *testing.T) {
	b := newBed(t)
	b.put("etc/ssh/ssh_host_rsa_key", "own")
	b.put("etc/hostname", "till-7\n")
	all := []Setting{{MachineID, Persist}, {DBus, Generate}, {Hostname, Persist}, {SSHHostKeys, Persist}}
	b.env.Kept.Rules = []rule.Rule{{Path: "/etc", Action: rule.Merge}}
	b.boot(b.store(), all...)
	b.boot(b.store(), all...) // no first boot any more
	before := inodes(t, b.root)
	b.boot(b.store(), all...)
	b.save(true, all...)
	if diff := cmp.Diff(before, inodes(t, b.root)); diff != "" {
		t.Errorf("a boot copied up what did not change (-before +after):\n%s", diff)
	}
}

func inodes(t *testing.T, dir string) map[string]uint64 {
	t.Helper()
	all := map[string]uint64{}
	err := filepath.Walk(dir, func(p string, _ os.FileInfo, err error) error {
		var st unix.Stat_t
		err = errors.Join(err, unix.Lstat(p, &st))
		all[p] = st.Ino
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// copyOf is what the images have, for a merged root in a directory.
func copyOf(t *testing.T, root string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(root)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTheRunningKernelTakesASeed(t *testing.T) {
	b := make([]byte, 64)
	ready, err := Linux{}.Random(b)
	if err != nil || !ready || bytes.Equal(b, make([]byte, 64)) {
		t.Errorf("Random() = %t, %v", ready, err)
	}
	if os.Geteuid() == 0 {
		if err := (Linux{}).Mix(b, 0); err != nil {
			t.Error(err)
		}
	}
}
