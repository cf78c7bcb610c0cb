package vmtests

// What a state does when the base below it changes.
//
//	machine   q35, 512 MiB
//	disks     vda: a store with two deployments, writable, and the state in it
//	console   the first boot takes deployment 1, the second deployment 2; the record of the second says what became of each path

import (
	"strings"
	"testing"

	"veneer/stage"
)

// changed are two builds of one product, each with its own files.
func changed(t *testing.T, name, more string, before, after []file) (old, new output) {
	t.Helper()
	a, b := keeps(t, name+"-1", more, before...), keeps(t, name+"-2", more, after...)
	b.toml = strings.Replace(b.toml, `version = "1.2"`, `version = "1.3"`, 1)
	return outputOf(t, a), outputOf(t, b)
}

// both is a disk with a store that holds both as deployments 1 and 2, installed by the command.
func both(t *testing.T, old, new output) string {
	t.Helper()
	dir := emptyDir(t)
	for _, out := range []output{old, new} {
		must(t, "", command(t), "install", out.dir, dir)
	}
	img := blank(t, "both.img", 64)
	must(t, "", "mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-L", label, "-E", "root_owner=0:0", "-d", dir, img)
	return img
}

const (
	onOld = "veneer.deployment=1"
	onNew = "veneer.deployment=2"
)

// mergeOf is what the record says of the merge of a path.
func mergeOf(t *testing.T, rec stage.Record, path string) stage.Merge {
	t.Helper()
	for _, m := range rec.Merges {
		if m.Path == path {
			return m
		}
	}
	t.Fatalf("the record knows no merge of %s: %+v", path, rec.Merges)
	return stage.Merge{}
}

func TestEtcIsMergedWhenTheBaseChanges(t *testing.T) {
	t.Parallel()
	const root = "root:x:0:0:root:/root:/bin/sh\n"
	old, new := changed(t, "etc-changes", "",
		[]file{{"etc/both", "old\n"}, {"etc/base-only", "old\n"}, {"etc/local-only", "old\n"}, {"etc/deleted", "old\n"}, {"etc/deleted-and-changed", "old\n"},
			{"etc/reverted", "old\n"}, {"etc/same", "old\n"}, {"etc/clash", "old\n"}, {"etc/dropped", "old\n"}, {"etc/d/a", "old\n"}},
		[]file{{"etc/both", "new\n"}, {"etc/base-only", "new\n"}, {"etc/local-only", "old\n"}, {"etc/deleted", "old\n"}, {"etc/deleted-and-changed", "new\n"},
			{"etc/reverted", "new\n"}, {"etc/same", "new\n"}, {"etc/clash/in", "new\n"}, {"etc/d/a", "old\n"}, {"etc/d/b", "new\n"},
			{"etc/added", "new\n"}, {"etc/passwd", root + "svc:x:100:100::/:/bin/false\n"}})
	m := old.machineOn(t, both(t, old, new))
	g := m.boot(onOld)
	g.keepsAll()
	g.run(`for f in both local-only clash; do echo local > /etc/$f; done; rm /etc/deleted /etc/deleted-and-changed; echo x > /etc/reverted; echo old > /etc/reverted`)
	g.run(`echo new > /etc/same; echo local > /etc/mine; echo local > /etc/d/mine; rm /etc/dropped; echo "me:x:1000:1000::/home:/bin/sh" >> /etc/passwd`)
	g.off()

	g = m.boot(onNew)
	rec := g.keepsAll()
	got := mergeOf(t, rec, "/etc")
	t.Logf("verdicts: %+v", got)
	for path, want := range map[string]string{
		"both": "local", "both.new": "new", "base-only": "new", "local-only": "local", "local-only.new": "", "deleted": "", "deleted.new": "",
		"deleted-and-changed": "", "deleted-and-changed.new": "new", "reverted": "new", "same": "new", "clash": "local", "clash.new/in": "new",
		"mine": "local", "d/mine": "local", "d/a": "old", "d/b": "new", "added": "new", "dropped": "",
		"passwd": root + "svc:x:100:100::/:/bin/false\nme:x:1000:1000::/home:/bin/sh"} {
		out, code := g.try("cat /etc/" + path)
		out = strings.TrimSuffix(out, "\n")
		if path == "passwd" { // where the two new lines stand in it is the merge's own test
			for _, line := range strings.Split(want, "\n") {
				if !strings.Contains(out+"\n", line+"\n") {
					t.Errorf("/etc/passwd lacks %q:\n%s", line, out)
				}
			}
			continue
		}
		if code != 0 {
			out = ""
		}
		if out != want {
			t.Errorf("/etc/%s holds %q, want %q", path, out, want)
		}
	}
	if got.Conflict != 2 || got.TypeClash != 1 || got.TookNew < 1 || got.DeletedLocal != 1 || got.Merged < 1 || got.KeptLocal < 3 || got.Pruned < 2 {
		t.Errorf("the record counts %+v, want 2 conflicts, 1 clash, 1 deleted, and some of each other", got)
	}
	report := g.run("cat " + got.Report)
	for _, want := range []string{`"both"`, `"conflict"`, `"clash"`, `"type-clash"`, `"two-way": ?false`} {
		if !contains(report, want) {
			t.Errorf("the report does not match %s:\n%s", want, report)
		}
	}
	if diff := g.run("veneer etc diff"); !contains(diff, `both\.new`) {
		t.Errorf("veneer etc diff does not list the conflict:\n%s", diff)
	}
	g.run("veneer etc accept both")
	g.holds("/etc/both", "new")
	g.holds("/etc/both.new", "")
	g.off()

	g = m.boot(onNew)
	if rec := g.keepsAll(); len(rec.Merges) != 0 {
		t.Errorf("a boot of the same base merged: %+v", rec.Merges)
	}
	g.holds("/etc/both", "new")
	g.holds("/etc/mine", "local")
	g.off()

	// The deployment before has its own /etc.
	g = m.boot(onOld)
	g.keepsAll()
	g.holds("/etc/both", "local")
	g.holds("/etc/added", "")
	g.holds("/etc/base-only", "old")
	g.off()
}

func TestEachPolicyDoesItsOwnToAnUpperOnAnotherBase(t *testing.T) {
	t.Parallel()
	more := ""
	var before, after []file
	for _, policy := range []string{"merge", "keep", "quarantine", "reset"} {
		more += "[[rules]]\npath = \"/srv/" + policy + "\"\naction = \"merge\"\nbase-change = \"" + policy + "\"\n"
		before = append(before, file{"srv/" + policy + "/a", "old\n"}, file{"srv/" + policy + "/b", "old\n"}, file{"srv/" + policy + "/touched", "old\n"})
		after = append(after, file{"srv/" + policy + "/a", "new\n"}, file{"srv/" + policy + "/b", "new\n"}, file{"srv/" + policy + "/touched", "new\n"})
	}
	old, new := changed(t, "policies", more, before, after)
	m := old.machineOn(t, both(t, old, new))
	g := m.boot(onOld)
	g.keepsAll()
	for _, policy := range []string{"merge", "keep", "quarantine", "reset"} {
		g.run("cd /srv/" + policy + "; echo local > a; echo local > mine; echo old > touched; cd /")
	}
	g.off()
	g = m.boot(onNew)
	rec := g.record()
	for policy, want := range map[string][4]string{ // a, a.new, mine, touched
		"merge":      {"local", "new", "local", "new"},
		"keep":       {"local", "", "local", "old"},
		"quarantine": {"new", "", "", "new"},
		"reset":      {"new", "", "", "new"},
	} {
		for i, name := range []string{"a", "a.new", "mine", "touched"} {
			g.holds("/srv/"+policy+"/"+name, want[i])
		}
		g.holds("/srv/"+policy+"/b", "new")
	}
	if len(rec.Degraded) != 1 || !strings.Contains(rec.Degraded[0].What, "/srv/quarantine was quarantined") {
		t.Errorf("degraded %q, want that of /srv/quarantine and no other", rec.Degraded)
	}
	mergeOf(t, rec, "/srv/merge")
	// What was put away is there.
	found := g.run("find /run/veneer/state/aside")
	if n := strings.Count(found, "/mine\n"); n != 2 {
		t.Errorf("aside holds %d of the two files:\n%s", n, found)
	}
	g.off()
	g = m.boot(onNew)
	g.keepsAll()
	g.holds("/srv/merge/a", "local")
	g.off()
}
