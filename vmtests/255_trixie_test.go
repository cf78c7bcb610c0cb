package vmtests

// A Debian 13, whose systemd (257) mounts, checks and remounts in other ways than that of Debian 12, on a volatile root with /etc
// merged and /var persistent.
//
//	machine   q35, 1024 MiB
//	disks     vda: the store, writable, and the state in it
//	console   a login; one boot

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"veneer/vmtests/qemu"
)

// trixieTree is a Debian 13 with e2fsprogs, made once and kept.
func trixieTree(t *testing.T) string {
	t.Helper()
	return shared.make(t, "Debian 13", func() (string, error) {
		path := filepath.Join(shared.cache, "debian-trixie-amd64.tar")
		_, err := tool(context.Background(), shared.root, "examples/debian/tree", path, "e2fsprogs", "trixie")
		return path, err
	})
}

func TestADebian13ComesUpWholeWithAStateOfItsOwn(t *testing.T) {
	t.Parallel()
	out := outputOf(t, recipe{"trixie-kept", `name = "debian"
version = "13"
source = "debian.tar"
[state]
place = "store"
[[rules]]
path = "/var"
action = "persist"
[keys]
secret = "test.key"
[allow]
losses = ["acl", "implied-directories"]
`, map[string]string{"debian.tar": trixieTree(t), "test.key": testKey(t, "test")}})
	store := copied(t, out.disk())
	must(t, "", "truncate", "-s", "1G", store)
	must(t, "", "resize2fs", store)
	vm := out.machineOn(t, store).vm
	vm.Append = append([]string{"systemd.journald.forward_to_console=0"}, vm.Append...)
	begin := time.Now()
	g := login(t, vm)
	g.whole()
	t.Logf("%v until systemd says that it runs", time.Since(begin).Round(time.Second))
	g.keepsAll()
	if version := g.word("systemctl --version | head -n 1"); !contains(version, `^systemd 25[7-9]`) {
		t.Errorf("this is %s, want systemd 257 or later", version)
	}
	if failed := g.word("systemctl list-units --failed --plain --no-legend --no-pager"); failed != "" {
		t.Errorf("failed: %s", failed)
	}
	for _, unit := range []string{"systemd-remount-fs.service", "systemd-fsck-root.service"} {
		if state, _ := g.try("systemctl is-enabled " + unit); strings.TrimSpace(state) != "masked-runtime" {
			t.Errorf("%s is %s, want masked-runtime", unit, state)
		}
	}
	for path, kind := range map[string]string{"/": "overlay", "/etc": "overlay", "/var": "ext4"} {
		if got := g.word("findmnt -n -o FSTYPE " + path); got != kind {
			t.Errorf("%s is %q, want %s", path, got, kind)
		}
	}
	if errs := g.run("journalctl -b -p err --no-pager -o cat"); contains(errs, `(?i)remount|fsck|generator`) {
		t.Errorf("systemd does not get along with the root:\n%s", errs)
	}
	g.run("echo kept > /etc/kept; echo kept > /var/lib/kept")
	g.leave("systemctl poweroff", "poweroff", qemu.PoweredOff)
}
