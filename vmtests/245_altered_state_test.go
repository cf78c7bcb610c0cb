package vmtests

// A state that somebody wrote to between two boots: rules of the site that are none or that the base does not allow, and uppers that
// come from another machine or another base.
//
//	machine   q35, 512 MiB
//	disks     vda: the store, writable, and the state in it, altered by this host
//	console   the shell of the base, after a warning; the record says what does not hold

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"veneer/overlay"
	"veneer/overlay/rule"
	"veneer/overlay/state"
	"veneer/stage"
)

// alter puts a file into the state of a disk.
func alter(t *testing.T, disk, name string, text []byte) {
	t.Helper()
	from := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(from, text, 0o600); err != nil {
		t.Fatal(err)
	}
	commands := filepath.Join(filepath.Dir(from), "commands")
	if err := os.WriteFile(commands, []byte("rm veneer/"+name+"\nwrite "+from+" veneer/"+name+"\nset_inode_field veneer/"+name+" uid 0\nset_inode_field veneer/"+name+" gid 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "", "debugfs", "-w", "-f", commands, disk)
	must(t, "", "cmp", from, dumped(t, disk, "veneer/"+name))
}

// dumped is a copy of a file on a disk.
func dumped(t *testing.T, disk, name string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "dumped")
	must(t, "", "debugfs", "-R", "dump "+name+" "+to, disk)
	return to
}

// written is the file that veneer itself would write into a state, by whatever fn does.
func written(t *testing.T, name string, fn func(d *state.Dir) error) []byte {
	t.Helper()
	at := emptyDir(t)
	d, err := state.Open(at)
	if err == nil {
		defer d.Close()
		err = fn(d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return read(t, filepath.Join(at, name))
}

// altered boots a machine once, for its state, and returns its disk; the state is not busy any more.
func altered(t *testing.T, out output) string {
	t.Helper()
	disk := copied(t, out.disk())
	g := out.machineOn(t, disk).boot()
	g.keepsAll()
	g.run("echo mine > /etc/mine; echo mine > /etc/hostname; echo mine > /opt/owned/mine; echo mine > /srv/app/mine; echo mine > /var/lib/mine")
	g.off()
	return disk
}

func sited(t *testing.T) output {
	t.Helper()
	r := keeps(t, "sited", `
[[rules]]
path = "/opt/owned"
action = "persist"
site = ["ephemeral"]
`, file{"opt/owned/seed", "seed\n"}, file{"srv/app/seed", "seed\n"})
	r.toml = strings.Replace(r.toml, "place = \"store\"\n", "place = \"store\"\nrule-paths = [\"/srv/**\"]\n", 1)
	return outputOf(t, r)
}

func TestRulesOfTheSiteHoldAsFarAsTheBaseAllowsAndElseItIsSaid(t *testing.T) {
	t.Parallel()
	out := sited(t)
	disk := altered(t, out)
	rules := func(rules ...rule.Rule) []byte {
		return written(t, "site-rules.json", func(d *state.Dir) error { return d.SetSiteRules(rules) })
	}
	allowed := []rule.Rule{{Path: "/opt/owned", Action: rule.Ephemeral}, {Path: "/srv/app", Action: rule.Persist}}
	forbidden := append([]rule.Rule{{Path: "/var", Action: rule.Ephemeral}}, allowed...)
	for name, c := range map[string]struct {
		text  []byte
		why   string // of the degradation; "" where there is none
		holds bool   // the rules of the site that the base allows
	}{
		"allowed":                  {rules(allowed...), "", true},
		"one that is not allowed":  {rules(forbidden...), `rule of the site for /var: .*does not allow ephemeral`, true},
		"no rules at all":          {[]byte("{ this is junk"), `site-rules\.json`, false},
		"larger than any can be":   {[]byte(strings.Repeat("x", 2<<20)), `site-rules\.json: larger than`, false},
		"of another, newer format": {[]byte(strings.Replace(string(rules(allowed...)), `"format": 1`, `"format": 7`, 1)), `format 7`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := copied(t, disk)
			alter(t, disk, "site-rules.json", c.text)
			m := out.machineOn(t, disk)
			g := m.boot()
			rec := g.record()
			if rec.State.Kind != stage.StatePersistent {
				t.Errorf("the state is %+v, want a persistent one", rec.State)
			}
			found := map[string]string{}
			for _, r := range rec.Rules {
				found[r.Path] = r.Action + " of the " + r.Origin
			}
			want := map[string]string{"/var": "persist of the base", "/opt/owned": "persist of the base", "/srv/app": ""}
			if c.holds {
				want["/opt/owned"], want["/srv/app"] = "ephemeral of the site", "persist of the site"
			}
			for path, w := range want {
				if found[path] != w {
					t.Errorf("%s is %q, want %q", path, found[path], w)
				}
			}
			g.holds("/var/lib/mine", "mine")
			if c.holds {
				g.holds("/opt/owned/mine", "")
			} else {
				g.holds("/opt/owned/mine", "mine")
			}
			if c.why == "" {
				g.keepsAll()
				g.off()
				return
			}
			if len(rec.Degraded) != 1 || rec.Degraded[0].What != "rules of the site do not hold" || !contains(rec.Degraded[0].Why, c.why) {
				t.Errorf("degraded %q, want that the rules of the site do not hold, and %s", rec.Degraded, c.why)
			}
			for _, ask := range []string{"cat /run/motd.d/veneer", "veneer status"} {
				if text, _ := g.try(ask); !contains(text, `rules of the site do not hold`) {
					t.Errorf("%s does not say so:\n%s", ask, text)
				}
			}
			if !contains(unwrap(g.String()), `rules of the site do not hold`) {
				t.Error("the console does not say so")
			}
			g.off()
		})
	}
}

func TestAnUpperFromElsewhereIsMergedOrPutAsideNeverJustStacked(t *testing.T) {
	t.Parallel()
	out := sited(t)
	disk := altered(t, out)
	man := out.manifest(t)
	stamp := func(edit func(*state.Stamp)) []byte {
		s := state.Stamp{Product: man.Name, Version: man.Version, Serial: "1", Options: overlay.KeptOptions}
		for _, img := range man.Images {
			s.Lowers = append(s.Lowers, img.ID)
			if img.Role == "base" {
				s.Base = img.ID
			}
		}
		edit(&s)
		return written(t, "u/stamp/stamp.json", func(d *state.Dir) error {
			if err := os.MkdirAll(filepath.Join(d.Name(), "u/fs"), 0o755); err != nil {
				return err
			}
			return d.WriteStamp("u", s)
		})
	}
	for name, c := range map[string]struct {
		stamp []byte
		why   string // of the quarantine; "": it is merged
	}{
		"of another product":   {stamp(func(s *state.Stamp) { s.Product = "other" }), `written for "other"`},
		"under other options":  {stamp(func(s *state.Stamp) { s.Options = "redirect_dir=on" }), `redirect_dir=on`},
		"with a stamp of junk": {[]byte("junk"), `its stamp cannot be read`},
		"of a base that nobody here has seen": {stamp(func(s *state.Stamp) {
			s.Base = strings.Repeat("ab", 32)
			s.Lowers[len(s.Lowers)-1] = s.Base
		}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := copied(t, disk)
			alter(t, disk, "etc/1/stamp/stamp.json", c.stamp)
			g := out.machineOn(t, disk).boot()
			rec := g.record()
			if c.why == "" {
				merge := mergeOf(t, g.keepsAll(), "/etc")
				if merge.From != strings.Repeat("ab", 32) {
					t.Errorf("the record says %+v, want a merge from that base", merge)
				}
				if report := g.run("cat " + merge.Report); !contains(report, `"two-way": ?true`) {
					t.Errorf("the report does not say that the former base is not known:\n%s", report)
				}
				g.holds("/etc/mine", "mine")
				g.holds("/etc/hostname", "mine")
				g.off()
				return
			}
			if len(rec.Degraded) != 1 || !contains(rec.Degraded[0].What, `upper of /etc was quarantined`) || !contains(rec.Degraded[0].Why, c.why) {
				t.Errorf("degraded %q, want that the upper was quarantined, and %s", rec.Degraded, c.why)
			}
			g.holds("/etc/mine", "")
			g.holds("/etc/hostname", "small")
			g.holds("/var/lib/mine", "mine")
			if found := g.run("find /run/veneer/state/aside"); !contains(found, `/mine\n`) {
				t.Errorf("what was there is not aside:\n%s", found)
			}
			g.off()
		})
	}
}
