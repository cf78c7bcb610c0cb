package vmtests

// What becomes of /etc under each policy that a veneer.toml can name, at the next boot, which is one of another base.
//
//	machine   q35, 512 MiB
//	disks     vda: a store with two deployments, writable, and the state in it
//	console   the first boot takes deployment 1, the second deployment 2

import (
	"testing"
)

func TestEachPolicyForEtcKeepsWhatItSays(t *testing.T) {
	t.Parallel()
	before := []file{{"etc/touched", "old\n"}, {"etc/untouched", "old\n"}, {"etc/removed", "old\n"}}
	after := []file{{"etc/touched", "new\n"}, {"etc/untouched", "new\n"}, {"etc/removed", "old\n"}}
	for policy, want := range map[string]struct {
		toml string
		etc  map[string]string // file -> content after the reboot
	}{
		"merge": {`policy = "merge"`, map[string]string{"touched": "mine", "touched.new": "new", "untouched": "new", "removed": "", "mine": "mine", "other": "mine", "net/a": "mine"}},
		"keep":  {`policy = "keep"`, map[string]string{"touched": "mine", "touched.new": "", "untouched": "new", "removed": "", "mine": "mine", "other": "mine", "net/a": "mine"}},
		"allow-list": {"policy = \"allow-list\"\nallow = [\"mine\", \"touched\", \"net\"]",
			map[string]string{"touched": "mine", "untouched": "new", "removed": "old", "mine": "mine", "other": "", "net/a": "mine"}},
		"transient": {`policy = "transient"`, map[string]string{"touched": "new", "touched.new": "", "untouched": "new", "removed": "old", "mine": "", "other": "", "net/a": ""}},
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			old, new := changed(t, "etc-"+policy, "[etc]\n"+want.toml+"\n", before, after)
			m := old.machineOn(t, both(t, old, new))
			g := m.boot(onOld)
			g.keepsAll()
			g.run("echo mine > /etc/touched; rm /etc/removed; echo mine > /etc/mine; echo mine > /etc/other; mkdir /etc/net; echo mine > /etc/net/a; echo mine > /var/lib/mine")
			g.holds("/etc/touched", "mine")
			g.off()
			g = m.boot(onNew)
			rec := g.keepsAll()
			for path, text := range want.etc {
				g.holds("/etc/"+path, text)
			}
			g.holds("/var/lib/mine", "mine")
			merges := 0
			if policy == "merge" || policy == "allow-list" {
				merges = 1
				if got := mergeOf(t, rec, "/etc"); got.Conflict != 1 {
					t.Errorf("the record counts %+v, want one conflict", got)
				}
			}
			if len(rec.Merges) != merges {
				t.Errorf("the record knows %d merges, want %d", len(rec.Merges), merges)
			}
			g.off()
		})
	}
}
