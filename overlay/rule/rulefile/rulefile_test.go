package rulefile

import (
	"strings"
	"testing"

	"veneer/overlay/rule"
)

func TestAFileOfRulesIsRead(t *testing.T) {
	rules, err := Parse([]byte("# ours\n[[rules]]\npath = \"/srv\"\naction = \"persist\"\nallow = [\"www/**\"]\n[[rules]]\npath = \"/opt\"\naction = \"mask\"\n"))
	if err != nil || len(rules) != 2 || rules[0].Path != "/srv" || rules[0].Action != rule.Persist || len(rules[0].Allow) != 1 || rules[1].Action != rule.Mask {
		t.Errorf("Parse() = %+v, %v", rules, err)
	}
}

func TestMistakesInAFileOfRulesAreNamed(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"an unknown key":           {"[[rules]]\npaht = \"/srv\"\n", "line 2: unknown key rules.paht"},
		"another table":            {"[root]\nupper = \"tmpfs\"\n", "line 1: unknown key root"},
		"what is no TOML":          {"rules\n", "line 1"},
		"a wrong type":             {"[[rules]]\npath = 1\n", "line 2"},
		"an action that is none":   {"[[rules]]\npath = \"/srv\"\naction = \"keep\"\n", "rule for /srv: action: \"keep\""},
		"a path that has no rules": {"[[rules]]\npath = \"/run/x\"\naction = \"mask\"\n", "belongs to the kernel"},
		"too much":                 {strings.Repeat("#", Max+1), "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Parse() = %v, want %q", err, c.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("[[rules]]\npath = \"/srv\"\naction = \"persist\"\nallow = [\"a/**\"]\nsite = [\"mask\"]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		rules, err := Parse(text)
		if err != nil {
			return
		}
		for _, r := range rules {
			if r.Check() != nil {
				t.Errorf("Parse let %+v through", r)
			}
		}
	})
}
