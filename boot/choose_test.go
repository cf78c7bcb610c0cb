package boot

import (
	"errors"
	"strings"
	"testing"
)

func TestChoiceOfTheDeployment(t *testing.T) {
	broken := errors.New("input/output error")
	cases := []struct {
		name     string
		serials  []string
		def      string
		defErr   error
		asked    string
		want     string
		degraded bool
		refused  string
	}{
		{name: "the default boots", serials: []string{"1", "2"}, def: "1", want: "1"},
		{name: "what was asked for boots", serials: []string{"1", "2"}, def: "1", asked: "2", want: "2"},
		{name: "what was asked for and is not there is refused", serials: []string{"1", "2"}, def: "1", asked: "3", refused: "it holds 1, 2"},
		{name: "a default that is not there gives the newest, aloud", serials: []string{"9", "10"}, def: "7", want: "10", degraded: true},
		{name: "a default that cannot be read gives the newest, aloud", serials: []string{"2", "1"}, defErr: broken, want: "2", degraded: true},
		{name: "an empty store is refused", refused: "no deployment"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d, err := Choose(c.serials, c.def, c.defErr, c.asked)
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Fatalf("Choose() = %+v, %v, want a refusal with %q", d, err, c.refused)
				}
				return
			}
			if err != nil || d.Serial != c.want || (d.Degraded != "") != c.degraded || d.Why == "" {
				t.Errorf("Choose() = %+v, %v, want serial %s, degraded %v, with a reason", d, err, c.want, c.degraded)
			}
		})
	}
}

func TestSizesSurviveTheirSpelling(t *testing.T) {
	for _, s := range []string{"1M", "512M", "3G", "50%", "100%", "1536K", "1048577"} {
		size, err := ParseSize(s)
		if err != nil || size.String() != s {
			t.Errorf("ParseSize(%q) = %v, %v", s, size, err)
		}
	}
	for _, s := range []string{"", "0", "%", "0%", "1", "99999999999999999999", "9999999999G", "-1M", "1.5G", "M", "1T"} {
		if size, err := ParseSize(s); err == nil {
			t.Errorf("ParseSize(%q) = %v, want an error", s, size)
		}
	}
}
