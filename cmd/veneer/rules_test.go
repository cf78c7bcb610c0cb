package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"veneer/images"
	"veneer/overlay/rule"
	"veneer/overlay/state"
	"veneer/stage"
)

// machineWithRules is the root of a machine whose base lets the site say something of /srv and of what lies in /data.
func machineWithRules(t *testing.T) (root string, kept *state.Dir) {
	t.Helper()
	root = t.TempDir()
	man, err := images.ParseManifest(mustExample(t))
	if err != nil {
		t.Fatal(err)
	}
	man.State = images.State{Place: "store", RulePaths: []string{"/data/*"}}
	man.Rules = []rule.Rule{{Path: "/srv", Action: rule.Ephemeral, Site: []rule.Action{rule.Persist}}}
	for name, text := range map[string]string{
		stage.StoreDir + "/veneer/deployments/1/manifest.json":         string(man.Encode()),
		stage.StoreDir + "/veneer/deployments/1/manifest.json.minisig": "x",
		"/proc/sys/kernel/random/boot_id":                              "b\n",
		stage.StateMount + "/x":                                        "",
	} {
		if err := os.MkdirAll(filepath.Dir(root+name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	rec := stage.Record{Format: stage.RecordFormat, Store: stage.Store{Dir: "veneer"}, Deployment: stage.Deployment{Serial: "1"},
		State: stage.State{Kind: stage.StatePersistent, Mount: stage.StateMount}}
	if err := os.MkdirAll(root+stage.RunDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+stage.RecordPath, rec.Encode(), 0o644); err != nil {
		t.Fatal(err)
	}
	if kept, err = state.Open(root + stage.StateMount); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kept.Close() })
	return root, kept
}

func mustExample(t *testing.T) []byte {
	t.Helper()
	text, err := planManifest("")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTheSiteSetsWhatTheBaseAllows(t *testing.T) {
	for _, c := range []struct {
		name, toml string
		args       []string
		code       int
		says       string
		want       int // rules kept afterwards
	}{
		{"what is allowed is kept", "[[rules]]\npath = \"/srv\"\naction = \"persist\"\n[[rules]]\npath = \"/data/x\"\naction = \"persist\"\n", nil, 0, "from the next boot on", 2},
		{"what is only checked is not", "[[rules]]\npath = \"/srv\"\naction = \"persist\"\n", []string{"--check"}, 0, "nothing was changed", 0},
		{"another action is refused", "[[rules]]\npath = \"/srv\"\naction = \"mask\"\n", nil, 1, "it allows persist", 0},
		{"another path is refused", "[[rules]]\npath = \"/home\"\naction = \"persist\"\n", nil, 1, "state.rule-paths", 0},
		{"a typo is named with its line", "[[rules]]\npaht = \"/srv\"\n", nil, 1, "line 2: unknown key", 0},
		{"no file at all", "", nil, 1, "ends in .toml", 0},
		{"nonsense of a call", "", []string{"--clear", "--check"}, 2, "--clear takes neither", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			root, kept := machineWithRules(t)
			if c.toml != "" {
				dir := root + siteRulesDir
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(dir+"/10.toml", []byte(c.toml), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			var out bytes.Buffer
			cmd := newRoot()
			cmd.SetOut(&out)
			cmd.SetErr(&out)
			code := run(context.Background(), cmd, append([]string{"rules", "--root", root}, c.args...))
			if code != c.code || !strings.Contains(out.String(), c.says) {
				t.Errorf("exit code %d, %q; want %d and %q", code, out.String(), c.code, c.says)
			}
			rules, err := kept.SiteRules()
			if err != nil || len(rules) != c.want {
				t.Errorf("the state holds %+v, %v, want %d rules", rules, err, c.want)
			}
		})
	}
}
