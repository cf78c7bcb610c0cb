package vmtests

// A return to a snapshot for one path, on the running machine.
//
//	machine   q35, 512 MiB
//	disks     vda: the store, writable, in which the state is
//	console   the shell of the small base, which writes, returns, and looks; two boots

import "testing"

func TestAPathReturnsToASnapshotOnTheRunningMachineAndStaysSo(t *testing.T) {
	t.Parallel()
	out := kept(t)
	m := out.machineOn(t, copied(t, out.disk()))
	g := m.boot()
	g.keepsAll()
	base := g.run("cat /etc/passwd")
	g.run("mkdir -p /etc/app /var/lib/app; echo then > /etc/app/conf; ln -s conf /etc/app/link; chmod 600 /etc/app/conf; echo then > /var/lib/app/db")
	g.run("veneer snapshot before --data")
	g.run("echo now > /etc/app/conf; rm /etc/app/link; echo now > /etc/app/newer; echo none > /etc/passwd; rm -r /var/lib/app; echo other > /etc/other")
	if got := g.run("veneer snapshot restore before /etc/app --dry-run"); g.run("cat /etc/app/conf") != "now\n" {
		t.Errorf("a dry run changed the file: %s", got)
	}
	for _, p := range []string{"/etc/app", "/etc/passwd", "/var/lib"} {
		g.run("veneer snapshot restore before " + p)
	}
	look := func() {
		t.Helper()
		g.holds("/etc/app/conf", "then")
		g.holds("/etc/app/link", "then")
		g.holds("/etc/app/newer", "")
		g.holds("/etc/other", "other")
		g.holds("/var/lib/app/db", "then")
		if got := g.run("cat /etc/passwd"); got != base {
			t.Errorf("/etc/passwd is %q, want what the base has: %q", got, base)
		}
	}
	look()
	if out, code := g.try("veneer snapshot restore before /root"); code != 1 {
		t.Errorf("a return of what is volatile: exit %d, %s", code, out)
	}
	g.off()
	g = m.boot()
	g.keepsAll()
	look()
	g.off()
}
