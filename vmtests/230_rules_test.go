package vmtests

// Rules for single paths, and what the site may say.
//
//	machine   q35, 512 MiB
//	disks     vda: the store, writable, and the state in it
//	console   the shell of the base; the record lists the rules that are in force, and which were refused

import (
	"testing"
)

func TestEachRuleDoesWhatItSays(t *testing.T) {
	t.Parallel()
	out := outputOf(t, keeps(t, "rules", `
[[rules]]
path = "/opt/masked"
action = "mask"
[[rules]]
path = "/opt/fixed"
action = "read-only"
[[rules]]
path = "/var/cache"
action = "ephemeral"
[[rules]]
path = "/var/mixed"
action = "persist"
form = "overlay"
allow = ["keep", "keep/**"]
deny = ["keep/not"]
[[rules]]
path = "/opt/owned"
action = "persist"
owner = "12:34"
mode = "0750"
site = ["ephemeral"]
`, file{"opt/masked/secret", "secret\n"}, file{"opt/fixed/a", "a\n"}, file{"var/cache/seed", "seed\n"}, file{"var/mixed/base", "base\n"}, file{"opt/owned/seed", "seed\n"}))
	m := out.machineOn(t, copied(t, out.disk()))
	g := m.boot()
	g.keepsAll()
	g.holds("/opt/masked/secret", "")
	g.holds("/opt/fixed/a", "a")
	for _, path := range []string{"/opt/fixed/x", "/opt/masked/x"} {
		if text, code := g.try("echo x > " + path); code == 0 {
			t.Errorf("%s was written: %s", path, text)
		}
	}
	if ls := g.run("ls -ld /opt/owned"); !contains(ls, `^drwxr-x--- .*12\b.*34\b`) {
		t.Errorf("/opt/owned is %q, want drwxr-x--- 12 34", ls)
	}
	g.holds("/opt/owned/seed", "seed")
	g.run("mkdir /var/mixed/keep; echo a > /var/mixed/keep/a; echo a > /var/mixed/keep/not; echo a > /var/mixed/other; echo changed > /var/mixed/base")
	g.run("echo a > /var/cache/gone; echo changed > /var/cache/seed; echo a > /opt/owned/kept; echo a > /var/kept")
	// The site: one rule that the base allows, one that it does not.
	g.run(`echo "[[rules]]" > /root/good.toml; echo 'path = "/opt/owned"' >> /root/good.toml; echo 'action = "ephemeral"' >> /root/good.toml`)
	g.run(`echo "[[rules]]" > /root/bad.toml; echo 'path = "/opt/masked"' >> /root/bad.toml; echo 'action = "persist"' >> /root/bad.toml`)
	if text, code := g.try("veneer rules /root/bad.toml"); code == 0 || !contains(text, `/opt/masked`) {
		t.Errorf("a rule that the base does not allow was taken, code %d: %s", code, text)
	}
	g.off()

	g = m.boot()
	g.keepsAll()
	g.holds("/var/mixed/keep/a", "a")
	g.holds("/var/mixed/keep/not", "")
	g.holds("/var/mixed/other", "")
	g.holds("/var/mixed/base", "base")
	g.holds("/var/cache/gone", "")
	g.holds("/var/cache/seed", "seed")
	g.holds("/var/kept", "a")
	g.holds("/opt/owned/kept", "a")
	g.run(`echo "[[rules]]" > /root/good.toml; echo 'path = "/opt/owned"' >> /root/good.toml; echo 'action = "ephemeral"' >> /root/good.toml`)
	g.run("veneer rules /root/good.toml")
	g.off()

	g = m.boot()
	rec := g.keepsAll()
	for _, r := range rec.Rules {
		if r.Path == "/opt/owned" && (r.Action != "ephemeral" || r.Origin != "site") {
			t.Errorf("the rule of the site is not in force: %+v", r)
		}
	}
	g.holds("/opt/owned/kept", "")
	g.off()
}

func TestAResetIsDoneOnceAndUndone(t *testing.T) {
	t.Parallel()
	out := kept(t)
	m := out.machineOn(t, copied(t, out.disk()))
	g := m.boot()
	g.keepsAll()
	g.run("echo a > /etc/a; echo a > /var/lib/a; veneer reset --scope etc")
	g.holds("/etc/a", "a")
	g.off()

	done := func(g *guest, n int) {
		t.Helper()
		rec := g.keepsAll()
		if len(rec.Requests) != n {
			t.Errorf("the record says %+v, want %d requests", rec.Requests, n)
		}
		for _, r := range rec.Requests {
			if r.Error != "" {
				t.Errorf("request %+v failed", r)
			}
		}
	}
	g = m.boot()
	done(g, 1)
	g.holds("/etc/a", "")
	g.holds("/var/lib/a", "a")
	g.run("echo b > /etc/b; veneer undo")
	g.off()

	g = m.boot()
	done(g, 1)
	g.holds("/etc/a", "a")
	g.holds("/etc/b", "")
	g.run("veneer bless")
	if text, code := g.try("veneer undo"); code == 0 {
		t.Errorf("an undo behind a bless was taken: %s", text)
	}
	g.off()

	const word = "veneer.reset=data"
	g = m.boot(word)
	done(g, 1)
	g.holds("/var/lib/a", "")
	g.holds("/etc/a", "a")
	g.run("echo again > /var/lib/a")
	g.off()
	g = m.boot(word)
	done(g, 0)
	g.holds("/var/lib/a", "again")
	g.off()
}
