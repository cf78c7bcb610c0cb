package overlay

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"veneer/boot"
	"veneer/overlay/mount"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func good(layers int) Stack {
	s := Stack{Upper: boot.Upper{Kind: boot.UpperTmpfs}, UpperDir: "/run/veneer/upper", LinkDir: "/run/veneer/lower",
		Target: "/sysroot", Lowers: []string{"/run/veneer/base"}}
	for i := range layers {
		s.Lowers = append(s.Lowers, fmt.Sprintf("/run/veneer/layers/%064x", i))
	}
	return s
}

func TestPlansAreTheGoldenOnes(t *testing.T) {
	odd := good(0)
	odd.Lowers = []string{`/l/a:b`, `/l/c,d`, `/l/e\f`, `/l/g h`, "/l/i'j"}
	kept := good(1)
	kept.Upper.Kind, kept.UpperDir = boot.UpperPersistent, "/run/veneer/state/upper"
	readOnly := good(1)
	readOnly.ReadOnly = true
	for name, s := range map[string]Stack{"base-alone": good(0), "one-layer": good(1), "64-layers-get-short-links": good(64),
		"odd-names-are-escaped": odd, "read-only": readOnly, "persistent": kept} {
		t.Run(name, func(t *testing.T) {
			ops, err := Plan(s)
			if err != nil {
				t.Fatalf("Plan: %v", err)
			}
			var r mount.Recorder
			for _, op := range ops {
				if err := r.Apply(op); err != nil {
					t.Fatal(err)
				}
			}
			golden := filepath.Join("testdata", name+".sh")
			if *update {
				if err := os.WriteFile(golden, []byte(r.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), r.String()); diff != "" {
				t.Errorf("Plan() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStacksThatCannotBeMadeAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		bend func(*Stack)
		want string
	}{
		"no base at all":                  {func(s *Stack) { s.Lowers = nil }, "needs a base"},
		"more layers than overlayfs":      {func(s *Stack) { *s = good(MaxLayers) }, "more than the 500"},
		"an upper of another kind":        {func(s *Stack) { s.Upper.Kind = "disk" }, "neither tmpfs nor persistent"},
		"a relative lower":                {func(s *Stack) { s.Lowers[0] = "base" }, "not absolute"},
		"an upper inside a lower":         {func(s *Stack) { s.UpperDir = s.Lowers[0] + "/up" }, "lie in one another"},
		"a lower inside the upper":        {func(s *Stack) { s.Lowers[0] = s.UpperDir + "/base" }, "lie in one another"},
		"an upper whose path is too long": {func(s *Stack) { s.UpperDir = "/" + strings.Repeat("x/", 2000) }, "do not fit"},
	} {
		t.Run(name, func(t *testing.T) {
			s := good(0)
			c.bend(&s)
			if _, err := Plan(s); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Plan() = %v, want a refusal with %q", err, c.want)
			}
		})
	}
}
