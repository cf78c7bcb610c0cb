package vmtests

// A real Debian with sshd and cron on a volatile root, /etc merged and /var persistent.
//
//	machine   q35, 1024 MiB
//	disks     vda: a store with two deployments, writable, and the state in it
//	console   a login; five boots

import (
	"os"
	"path/filepath"
	"testing"

	"veneer/vmtests/qemu"
)

// tinyDeb is a package with one file.
func tinyDeb(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"DEBIAN/control": "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: a file\n",
		"usr/share/tiny/file": "tiny\n", "etc/tiny.conf": "tiny\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, "p", name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "p", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	must(t, dir, "env", "SOURCE_DATE_EPOCH=1700000000", "dpkg-deb", "--root-owner-group", "-b", "p", "tiny.deb")
	return string(read(t, filepath.Join(dir, "tiny.deb")))
}

func keptDebian(t *testing.T, name string, files ...file) output {
	t.Helper()
	files = append(files, file{"opt/tiny.deb", tinyDeb(t)})
	return outputOf(t, recipe{name, `name = "debian"
version = "12"
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
[[layers]]
name = "site"
source = "layer.tar"
`, map[string]string{"debian.tar": debianStateTree(t), "layer.tar": archive(t, name, files...), "test.key": testKey(t, "test")}})
}

// twoDebians are two builds of one product, and a machine with a store that has both as deployments, the second one the default.
func twoDebians(t *testing.T) machine {
	t.Helper()
	old := keptDebian(t, "debian-kept-1", file{"etc/site.conf", "old\n"})
	new := keptDebian(t, "debian-kept-2", file{"etc/site.conf", "new\n"}, file{"etc/added.conf", "new\n"})
	dir := emptyDir(t)
	for _, out := range []output{old, new} {
		must(t, "", command(t), "install", out.dir, dir)
	}
	img := blank(t, "both.img", 1024)
	must(t, "", "mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-L", label, "-E", "root_owner=0:0", "-d", dir, img)
	return old.machineOn(t, img)
}

// whole boots the machine to a login, and holds that nothing failed and all is kept.
func (m machine) whole(t *testing.T, words ...string) *guest {
	t.Helper()
	vm := m.vm
	vm.Append = append(append([]string{"systemd.journald.forward_to_console=0"}, vm.Append...), words...)
	g := login(t, vm)
	g.whole()
	g.keepsAll()
	return g
}

func TestADebianKeepsWhatItIsAcrossBootsAnUpdateAndAReset(t *testing.T) {
	t.Parallel()
	m := twoDebians(t)
	boot := func(words ...string) *guest {
		t.Helper()
		g := m.whole(t, words...)
		for _, unit := range []string{"ssh", "cron"} {
			if state := g.word("systemctl is-active " + unit); state != "active" {
				t.Errorf("%s is %s", unit, state)
			}
		}
		return g
	}
	off := func(g *guest) {
		t.Helper()
		g.leave("systemctl poweroff", "poweroff", qemu.PoweredOff)
	}
	g := boot(onOld)
	id, key := g.id(), g.word("cat /etc/ssh/ssh_host_ed25519_key.pub")
	g.run("echo kept > /etc/kept; echo kept > /var/lib/kept; echo gone > /root/gone; useradd -m me")
	g.run("DEBIAN_FRONTEND=noninteractive apt-get install -y /opt/tiny.deb && dpkg -s tiny && cat /usr/share/tiny/file")
	off(g)

	same := func(g *guest) {
		t.Helper()
		if got := g.id(); got != id {
			t.Errorf("the machine-id is %s, and was %s", got, id)
		}
		if got := g.word("cat /etc/ssh/ssh_host_ed25519_key.pub"); got != key {
			t.Errorf("the host key is %s, and was %s", got, key)
		}
	}
	g = boot(onOld)
	same(g)
	g.holds("/etc/kept", "kept")
	g.holds("/var/lib/kept", "kept")
	g.holds("/root/gone", "")
	g.run("id me; test -e /etc/tiny.conf")
	off(g)

	g = boot(onNew)
	same(g)
	g.holds("/etc/site.conf", "new")
	g.holds("/etc/added.conf", "new")
	g.holds("/etc/kept", "kept")
	g.run("id me")
	if merge := mergeOf(t, g.record(), "/etc"); merge.Conflict+merge.TypeClash > 0 {
		t.Errorf("the merge of an untouched file left conflicts: %+v: %s", merge, g.run("cat "+merge.Report))
	}
	g.run("veneer reset --scope etc --keep identity")
	off(g)

	g = boot(onNew)
	same(g)
	g.holds("/etc/kept", "")
	g.holds("/var/lib/kept", "kept")
	if _, code := g.try("id me"); code == 0 {
		t.Error("the user me is still there after a reset of /etc")
	}
	off(g)
}
