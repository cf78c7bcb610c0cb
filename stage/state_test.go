package stage

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"veneer/boot"
	"veneer/images"
	"veneer/overlay/rule"
)

// A package database is forgotten with a volatile root and kept with a kept one, whatever the base was built for.
func TestAPackageDatabaseGoesWithTheRoot(t *testing.T) {
	man := images.Manifest{Root: images.Root{Upper: "tmpfs"}, State: images.State{Place: "store"}, Rules: []rule.Rule{
		{Path: "/var", Action: rule.Persist}, {Path: "/var/cache", Action: rule.Ephemeral}, {Path: "/var/lib/dpkg", Action: rule.Ephemeral}}}
	kept := []rule.Rule{man.Rules[0], man.Rules[1], {Path: "/var/lib/dpkg", Action: rule.Persist, Form: rule.Overlay}}
	for _, c := range []struct {
		name, upper string
		want        []rule.Rule
	}{
		{"a volatile root, as the manifest says", "", man.Rules},
		{"a root that is kept, as the command line says", "persistent", kept},
		{"a volatile root, as the command line says", "tmpfs", man.Rules},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := policyOf(boot.Config{Upper: boot.Upper{Kind: boot.UpperKind(c.upper)}}, man)
			if diff := cmp.Diff(c.want, p.rules); diff != "" || err != nil {
				t.Errorf("policyOf() = %v (-want +got):\n%s", err, diff)
			}
			if man.Rules[2].Action != rule.Ephemeral {
				t.Error("policyOf changed the manifest")
			}
		})
	}
	for _, r := range kept {
		if err := r.Check(); err != nil {
			t.Error(err)
		}
	}
}
