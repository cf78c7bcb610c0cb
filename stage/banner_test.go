package stage

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var updateBanners = flag.Bool("update-banners", false, "write the golden files of the banners")

func TestBannersSayWhatAndWhyAndWhatToDo(t *testing.T) {
	ephemeral := State{Kind: StateEphemeral, Reference: "LABEL=STATE", Why: "no device answered within 30s"}
	cases := []struct {
		name string
		rec  Record
	}{
		{"ephemeral", Record{State: ephemeral, Degraded: []Degraded{{"nothing is kept", "state LABEL=STATE: no device answered within 30s"}}}},
		{"unverified", Record{Degraded: []Degraded{{"not verified", "veneer.verify=none was given: neither the manifest's signature nor any block was checked"}}}},
		{"hostile", Record{State: State{Kind: StateEphemeral, Reference: "LABEL=\x1b[2J\\n", Why: "caf\u00e9\n\\l " + strings.Repeat("x", 200)}}},
		{"many", Record{Degraded: []Degraded{{"1", ""}, {"2", ""}, {"3", ""}, {"4", ""}, {"5", ""}, {"6", ""}}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, file := c.rec.Banner(), filepath.Join("testdata", "banner-"+c.name+".txt")
			if *updateBanners {
				if err := os.MkdirAll("testdata", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("Banner (-want +got):\n%s", diff)
			}
		})
	}
}

func TestABootAsItShouldBeHasNoBanner(t *testing.T) {
	for _, kind := range []string{"", StateNone, StatePersistent} {
		if got := (&Record{State: State{Kind: kind}}).Banner(); got != "" {
			t.Errorf("Banner of a state that is %q = %q", kind, got)
		}
	}
}

func FuzzBannersAreLinesOfASCII(f *testing.F) {
	f.Add("LABEL=x", "why\n\\x1b", "what")
	f.Fuzz(func(t *testing.T, reference, why, what string) {
		r := Record{State: State{Kind: StateEphemeral, Reference: reference, Why: why}, Degraded: []Degraded{{what, why}}}
		for _, line := range strings.Split(r.Banner(), "\n") {
			if len(line) > bannerWidth || strings.ContainsFunc(line, func(c rune) bool { return c < ' ' || c > '~' || c == '\\' }) {
				t.Errorf("a line of %d columns: %q", len(line), line)
			}
		}
	})
}
