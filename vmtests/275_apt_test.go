package vmtests

// apt install on a root that forgets, and on one that is kept.
//
//	machine   q35, 1024 MiB
//	disks     vda: a store with two deployments, writable, and the state in it: /etc merged, /var persistent
//	console   a login; four boots: twice on a volatile root, then on one that is kept, then on that with another base

import (
	"strings"
	"testing"

	"veneer/vmtests/qemu"
)

func TestAPackageGoesWithAVolatileRootAndStaysOnOneThatIsKept(t *testing.T) {
	t.Parallel()
	m := twoDebians(t)
	boot := func(words ...string) *guest { t.Helper(); return m.whole(t, words...) }
	off := func(g *guest) {
		t.Helper()
		g.leave("systemctl poweroff", "poweroff", qemu.PoweredOff)
	}
	install := func(g *guest) {
		t.Helper()
		g.run("DEBIAN_FRONTEND=noninteractive apt-get install -y /opt/tiny.deb && dpkg -s tiny && cat /usr/share/tiny/file")
	}
	// consistent checks that dpkg is content with itself and with the files of the package, if it is there.
	consistent := func(g *guest, there bool) {
		t.Helper()
		if out := strings.TrimSpace(g.run("dpkg --audit")); out != "" {
			t.Errorf("dpkg --audit: %s", out)
		}
		if _, code := g.try("dpkg -s tiny"); (code == 0) != there {
			t.Errorf("dpkg -s tiny: exit %d, want the package there: %v", code, there)
		}
		if n := g.word("dpkg-query -W | wc -l"); len(n) < 2 {
			t.Errorf("dpkg lists %s packages, want those of the base", n)
		}
		if there {
			g.holds("/usr/share/tiny/file", "tiny")
			if out := strings.TrimSpace(g.run("dpkg -V tiny")); out != "" {
				t.Errorf("dpkg -V tiny: %s", out)
			}
			return
		}
		g.holds("/usr/share/tiny/file", "")
	}

	g := boot(onOld)
	install(g)
	consistent(g, true)
	off(g)
	g = boot(onOld)
	consistent(g, false)
	off(g)

	g = boot(onOld, "veneer.upper=persistent")
	consistent(g, false)
	install(g)
	off(g)
	g = boot(onNew, "veneer.upper=persistent")
	g.holds("/etc/site.conf", "new")
	consistent(g, true)
	g.run("DEBIAN_FRONTEND=noninteractive apt-get remove -y tiny")
	consistent(g, false)
	off(g)
}
