package vmtests

// What makes a machine itself, on a real Debian with systemd 252 and sshd.
//
//	machine   q35, 1024 MiB, with a UUID that systemd would make its machine-id of, left alone
//	disks     vda: the output's store, write-protected; vdb: the state, where there is one
//	layer     /etc/machine-id with the word uninitialized, and an init that sets the identity from vdb (vmtests/identityinit)

import (
	"context"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"veneer/overlay/identity"
	"veneer/vmtests/qemu"
)

const (
	machineUUID = "c0ffee00-1234-4321-8765-0123456789ab"
	uninit      = "uninitialized\n"
)

// identified is Debian with sshd, systemd's first boot, and identityinit.
func identified(t *testing.T) output {
	t.Helper()
	program := shared.make(t, "identityinit", func() (string, error) {
		path := filepath.Join(shared.scratch, "identityinit")
		_, err := tool(context.Background(), shared.root, "env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=",
			"-o", path, "./vmtests/identityinit")
		return path, err
	})
	layer := archive(t, "identified", file{"etc/machine-id", uninit}, file{"usr/lib/identityinit", string(read(t, program))})
	return outputOf(t, recipe{"identified", `name = "shop"
version = "12"
source = "debian.tar"
[keys]
secret = "test.key"
[allow]
losses = ["acl", "implied-directories"]
[[layers]]
name = "identityinit"
source = "layer.tar"
`, map[string]string{"debian.tar": debianStateTree(t), "layer.tar": layer, "test.key": testKey(t, "test")}})
}

// machine boots with the state on its second disk. The init of the output has its say first; for a machine that keeps nothing
// that is another ID at each boot, which identityinit then finds where the base has none.
func (o output) machine(t *testing.T, state string, words ...string) *guest {
	t.Helper()
	words = append([]string{"init=/usr/lib/identityinit", "systemd.journald.forward_to_console=0"}, words...)
	vm := o.vm(t, o.disk(), words...)
	vm.UUID = machineUUID
	vm.Disks = append(vm.Disks, qemu.Disk{Path: state, Bus: qemu.VirtioBlk})
	return login(t, vm)
}

// told is what identityinit said of a preset.
func (g *guest) told(preset string) string {
	g.t.Helper()
	found := regexp.MustCompile(`identityinit: ` + preset + ` = [a-z-]+: (.*)`).FindStringSubmatch(g.String())
	if found == nil {
		g.t.Fatalf("identityinit said nothing of %s", preset)
	}
	return strings.TrimSpace(found[1])
}

// whole waits until systemd is done, and reports what failed.
func (g *guest) whole() {
	g.t.Helper()
	if state, code := g.try("systemctl is-system-running --wait"); code != 0 {
		g.t.Errorf("systemctl is-system-running: %s%s%s", state, g.run("systemctl list-units --failed --plain --no-legend --no-pager"),
			g.run("journalctl -p err --no-pager -o cat | tail -n 40"))
	}
}

func (g *guest) word(command string) string {
	g.t.Helper()
	return strings.TrimSpace(g.run(command))
}

// id checks that all who are asked for the machine's ID say the same.
func (g *guest) id() string {
	g.t.Helper()
	id := g.word("cat /etc/machine-id")
	if _, err := identity.ParseID([]byte(id)); err != nil {
		g.t.Error(err)
	}
	for _, ask := range []string{"cat /var/lib/dbus/machine-id", "systemd-id128 machine-id", "dbus-uuidgen --get"} {
		if got := g.word(ask); got != id {
			g.t.Errorf("%s: %s, and /etc/machine-id is %s", ask, got, id)
		}
	}
	if strings.Contains(id, strings.ReplaceAll(machineUUID, "-", "")) {
		g.t.Errorf("the machine-id %s is the platform's own", id)
	}
	return id
}

// firstBoot checks what systemd took the boot for, and where it had its ID from.
func (g *guest) firstBoot(want bool) {
	g.t.Helper()
	log := g.run("journalctl -b --no-pager -o cat | grep -i -e 'first boot' -e 'machine ID' || true")
	if got := contains(log, `Detected first boot`); got != want {
		g.t.Errorf("systemd has a first boot: %t, want %t:\n%s", got, want, log)
	}
	if want && !contains(log, `Initializing machine ID from D-Bus machine ID`) {
		g.t.Errorf("systemd has its ID from elsewhere:\n%s", log)
	}
}

// hostKey is what sshd shows to whoever connects.
func (g *guest) hostKey() string {
	g.t.Helper()
	key := g.word(`ssh-keyscan -T 60 -t ed25519 127.0.0.1 2>/dev/null | cut -d" " -f3`)
	if !strings.HasPrefix(key, "AAAA") {
		g.t.Errorf("sshd shows the key %q: %s", key, g.run("ssh-keyscan -T 60 -t ed25519 127.0.0.1; ls -l /etc/ssh; ip addr; ss -ltn; journalctl -u veneer-identity-keys -u ssh --no-pager -o cat | tail -n 20"))
	}
	return key
}

func TestAMachineStaysItselfOverPowerCuts(t *testing.T) {
	t.Parallel()
	out := identified(t)
	state := ext4(t, t.TempDir(), "STATE")

	g := out.machine(t, state)
	g.whole()
	g.firstBoot(true)
	id := g.id()
	if out, code := g.try("findmnt -n /etc/machine-id"); code == 0 {
		t.Errorf("systemd-machine-id-commit left its mount: %s", out)
	}
	if kept := g.word("cat /run/veneer/state/identity/machine-id"); kept != id {
		t.Errorf("kept is %s, and the ID is %s", kept, id)
	}
	key := g.hostKey()
	g.run("echo till-7 > /etc/hostname")
	g.run("for i in $(seq 100); do grep -qs till-7 /run/veneer/state/identity/hostname && break; sleep 0.2; done; grep till-7 /run/veneer/state/identity/hostname")
	g.Kill() // the power is cut
	g.ends(qemu.Killed)

	g = out.machine(t, state)
	g.whole()
	g.firstBoot(false)
	if again := g.id(); again != id {
		t.Errorf("the ID was %s and is %s", id, again)
	}
	if again := g.hostKey(); again != key {
		t.Errorf("the host key was %s and is %s", key, again)
	}
	if name := g.word("hostname"); name != "till-7" {
		t.Errorf("the hostname is %s", name)
	}
	if told := g.told("random-seed"); told != "rotated, credited" {
		t.Errorf("random-seed: %s", told)
	}
	if mode := g.word("stat -c %a /run/veneer/state/identity /run/veneer/state/identity/random-seed /run/veneer/state/identity/ssh/ssh_host_rsa_key | tr '\\n' ' '"); mode != "700 600 600" {
		t.Errorf("modes in the state: %s", mode)
	}
	// The last time that the machine was seen at is that of its shutdown.
	g.run("systemctl stop systemd-timesyncd 2>/dev/null; date -s 2031-05-05")
	g.leave("systemctl poweroff", "poweroff", qemu.PoweredOff)

	g = out.machine(t, state, "systemd.machine_id="+strings.Repeat("ab", 16))
	if got := g.id(); got != strings.Repeat("ab", 16) {
		t.Errorf("the command line asked for another ID than %s", got)
	}
	if year := g.word("date +%Y"); year != "2031" {
		t.Errorf("the clock says %s: %s", year, g.told("clock"))
	}
	g.leave("systemctl poweroff", "poweroff", qemu.PoweredOff)
}

// Where /etc is kept systemd writes the ID into it, and a hand may change it: neither is undone.
func TestAMachineStaysItselfWhereEtcIsKept(t *testing.T) {
	t.Parallel()
	out := identified(t)
	state := ext4(t, t.TempDir(), "STATE")
	words := []string{"test.etc=kept", "test.identity=machine-id:derived", "test.identity=hostname:generate"}

	g := out.machine(t, state, words...)
	g.whole()
	g.firstBoot(true)
	id := string(identity.DeriveID(machineUUID))
	if got := g.id(); got != id {
		t.Errorf("the ID is %s, want %s, derived", got, id)
	}
	if got, want := g.word("hostname"), "shop-"+id[:6]; got != want {
		t.Errorf("the hostname is %s, want %s", got, want)
	}
	g.leave("systemctl poweroff", "poweroff", qemu.PoweredOff)

	g = out.machine(t, state, words...)
	g.whole()
	g.firstBoot(false)
	if got := g.id(); got != id {
		t.Errorf("the ID is %s, want %s", got, id)
	}
	if told := g.told("ssh-host-keys"); told != "from the kept /etc" {
		t.Errorf("ssh-host-keys: %s", told)
	}
	g.leave("systemctl poweroff", "poweroff", qemu.PoweredOff)
}

// Without a state each boot is another machine's, as the init itself sets it.
func TestAVolatileMachineIsAnotherAtEachBoot(t *testing.T) {
	t.Parallel()
	out := identified(t)
	seen, keys := map[string]bool{}, map[string]bool{}
	for range 2 {
		vm := out.vm(t, out.disk())
		vm.UUID = machineUUID
		g := login(t, vm)
		g.whole()
		g.firstBoot(true)
		seen[g.id()] = true
		keys[g.hostKey()] = true
		if status := g.run("veneer status"); !contains(status, `Degraded +no`) {
			t.Error(status)
		}
		g.leave("systemctl poweroff", "poweroff", qemu.PoweredOff)
	}
	if len(seen) != 2 || len(keys) != 2 {
		t.Errorf("two boots have the IDs %v and the host keys %v", seen, keys)
	}
}

// A root that is to be read-only is so once it has its identity.
func TestAReadOnlyRootHasAnIdentity(t *testing.T) {
	t.Parallel()
	out := small(t)
	g := start(t, out.vm(t, out.disk(), "ro"))
	g.shell()
	if _, err := identity.ParseID([]byte(g.run("cat /var/lib/dbus/machine-id"))); err != nil {
		t.Error(err)
	}
	if text, code := g.try("touch /etc/x"); code == 0 || !contains(text, `(?i)read-only file system`) {
		t.Errorf("writing to a read-only root ended with code %d:\n%s", code, text)
	}
	g.leave("poweroff", "poweroff", qemu.PoweredOff)
}
