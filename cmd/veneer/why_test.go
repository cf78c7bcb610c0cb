package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"veneer/images"
	"veneer/overlay/rule"
	"veneer/stage"
)

func TestWhyAnswersByTheGlobsAndThePolicyOfTheRule(t *testing.T) {
	root, kept := machineWithRules(t)
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	man, err := images.ParseManifest(mustExample(t))
	if err != nil {
		t.Fatal(err)
	}
	man.State = images.State{Place: "store", RulePaths: []string{"/data/*"}}
	man.Root.Upper, man.Root.BaseChange = "persistent", rule.Keep
	man.Rules = []rule.Rule{{Path: "/etc", Action: rule.Merge, Allow: []string{"ssh", "app"}, Deny: []string{"ssh/tmp*"}},
		{Path: "/srv", Action: rule.Persist, Form: rule.Overlay, BaseChange: rule.Quarantine}, {Path: "/opt", Action: rule.Merge, BaseChange: rule.Reset}}
	manifest := stage.StoreDir + "/veneer/deployments/1/manifest.json"
	write(manifest, string(man.Encode()))
	if err := kept.SetSiteRules([]rule.Rule{{Path: "/data/x", Action: rule.Persist, Deny: []string{"cache"}}}); err != nil {
		t.Fatal(err)
	}
	in := stage.StateMount
	rec := stage.Record{Format: stage.RecordFormat, Store: stage.Store{Dir: "veneer"}, Deployment: stage.Deployment{Serial: "1"},
		State: stage.State{Kind: stage.StatePersistent, Mount: in}, Upper: stage.Upper{Kind: "persistent", Mount: in + "/upper"}, Images: []stage.Attached{{Mount: "/base"}},
		Rules: []stage.Rule{{Path: "/etc", Action: "merge", Form: "overlay", Source: in + "/etc/1", Origin: "base"}, {Path: "/srv", Action: "persist", Form: "overlay", Source: in + "/merge/srv", Origin: "base"},
			{Path: "/opt", Action: "merge", Form: "overlay", Source: in + "/merge/opt", Origin: "base"}, {Path: "/data/x", Action: "persist", Form: "bind", Source: in + "/data/x", Origin: "site"}}}
	write(stage.RecordPath, string(rec.Encode()))
	for _, f := range []string{"/etc/1/fs/ssh/key", "/etc/1/fs/ssh/tmp1", "/etc/1/fs/other/f", "/merge/srv/fs/f", "/merge/opt/fs/f", "/data/x/cache/f", "/data/x/f", "/upper/fs/home/f"} {
		write(in+f, "x")
	}
	for _, d := range []string{"etc", "srv", "opt", "data/x"} {
		if err := os.MkdirAll(filepath.Join(root, "base", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		path, reboot, upgrade string
	}{
		{"/etc/ssh/key", "yes: the rule allows it", "yes (kept-local); if the next base adds one too, it is a conflict: this one stays, and the base's is put beside it as NAME.new"},
		{"/etc/ssh/tmp1", "no: the rule denies it", "as a reboot"},
		{"/etc/other", "no: the rule does not allow it, but what is in it and survives", "as a reboot"},
		{"/etc/other/f", "no: the rule does not allow it", "as a reboot"},
		{"/srv/f", "yes", "no: the upper is moved aside, and stays there until `veneer undo` (quarantine)"},
		{"/opt/f", "yes", "no: the upper is moved aside, and can be had back with `veneer undo` until a bless (reset)"},
		{"/data/x/f", "yes: the rule does not deny it", "yes: data is not touched by a new base"},
		{"/data/x/cache/f", "no: the rule denies it", "as a reboot"},
		{"/home/f", "yes", "yes: what was written stays over what the next base has (keep)"},
	} {
		code, out := onMachine(t, root, "why", c.path)
		if code != 0 || !strings.Contains(out, "  Reboot     "+c.reboot+"\n") || !strings.Contains(out, "  Upgrade    "+c.upgrade+"\n") {
			t.Errorf("why %s: exit %d, want the reboot %q and the upgrade %q:\n%s", c.path, code, c.reboot, c.upgrade, out)
		}
	}
	if err := os.Remove(filepath.Join(root, manifest)); err != nil {
		t.Fatal(err)
	}
	if code, out := onMachine(t, root, "why", "/etc/ssh/tmp1"); code != 0 || !strings.Contains(out, "the manifest, which has them, cannot be read") {
		t.Errorf("without the manifest: exit %d\n%s", code, out)
	}
	for _, words := range [][]string{{"why", ""}, {"diff", ""}, {"du", ""}} {
		if code, out := onMachine(t, root, words...); code != exitUsage || !strings.Contains(out, "the path is empty") {
			t.Errorf("veneer %q: exit %d: %s", words, code, out)
		}
	}
}
