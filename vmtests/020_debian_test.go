package vmtests

// A real Debian with systemd, from its own kernel.
//
//	machine   q35, 1024 MiB
//	disks     vda: the output's store, write-protected
//	console   a login on the serial port; at the end systemd goes back into the initramfs, and the exitrd says
//	          "root, upper, images and store are down"

import (
	"path/filepath"
	"strings"
	"testing"

	"veneer/vmtests/qemu"
)

// debian is the demo, by its own veneer.toml.
func debian(t *testing.T) output {
	t.Helper()
	toml := read(t, filepath.Join(shared.root, "examples/debian/veneer.toml"))
	toml = replaced(t, toml, "../../out/debian.tar", "debian.tar")
	toml = replaced(t, toml, "../../out/demo.key", "test.key")
	return outputOf(t, recipe{"debian", string(toml), map[string]string{"debian.tar": debianTree(t), "test.key": testKey(t, "test")}})
}

// login boots it and logs in.
func (o output) login(t *testing.T) *guest {
	t.Helper()
	return login(t, o.vm(t, o.disk()))
}

// login boots a machine with the demo's users and logs in.
func login(t *testing.T, vm qemu.VM) *guest {
	t.Helper()
	vm.MemoryMiB = 1024
	g := start(t, vm)
	g.prompt = `(?m:^# )`
	g.expect(`login: `)
	g.send("root")
	g.expect(`Password: `)
	g.send("veneer")
	g.expect(`permitted by applicable law`)
	// bash turns on bracketed paste with a sequence that vmtest takes for the beginning of another, and holds back with the
	// prompt behind it; so another shell takes over, and says something long enough to push that out.
	g.send("exec sh")
	g.send("echo this is $0, a shell that edits no lines")
	g.expect(`this is sh, a shell that edits no lines\n`)
	g.shell()
	return g
}

func TestDebianComesUpWhole(t *testing.T) {
	t.Parallel()
	out := debian(t)
	g := out.login(t)
	if state, code := g.try("systemctl is-system-running --wait"); code != 0 {
		failed := g.run("systemctl list-units --failed --plain --no-legend --no-pager")
		t.Errorf("systemctl is-system-running: %s%s%s", state, failed, g.run("journalctl -p err --no-pager -o cat | tail -n 40"))
	}
	if errs := g.run("journalctl -b -p err --no-pager -o cat"); contains(errs, `generator`) {
		t.Errorf("a generator of systemd does not get along with what it finds in /run:\n%s", errs)
	}
	text := g.run("veneer status")
	for _, want := range []string{`debian 12`, `Verified +yes, signed with key ` + keyID(t, "test"), `Degraded +no`, `Upper +tmpfs`, `Init +/sbin/init`} {
		if !contains(text, want) {
			t.Errorf("veneer status does not match %q:\n%s", want, text)
		}
	}
	if kind := g.run("findmnt -n -o FSTYPE /"); strings.TrimSpace(kind) != "overlay" {
		t.Errorf("/ is %q, want overlay", kind)
	}
	g.run("echo kept > /etc/kept")
	g.leave("systemctl poweroff", "poweroff", qemu.PoweredOff)

	again := out.login(t)
	if _, code := again.try("cat /etc/kept"); code == 0 {
		t.Error("/etc/kept is still there after a boot")
	}
	again.leave("systemctl reboot", "reboot", qemu.Reset)
}

func TestDebianLeavesNothingBusyHoweverItEnds(t *testing.T) {
	t.Parallel()
	out := debian(t)
	for _, verb := range []string{"halt", "kexec"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			vm := out.vm(t, out.disk(), "systemd.unit="+verb+".target") // ends as soon as it has begun
			vm.MemoryMiB = 1024
			g := start(t, vm)
			g.expect(`veneer: shutdown: root, upper, images and store are down`)
			g.expect(`veneer: shutdown: ` + verb)
			if verb == "halt" {
				g.halted()
			} else {
				g.expect(`veneer: shutdown: no kernel is loaded for kexec; rebooting`)
				g.ends(qemu.Reset)
			}
			g.never(`still busy`)
		})
	}
}
