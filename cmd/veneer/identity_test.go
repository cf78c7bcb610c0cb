package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"veneer/stage"
)

// runningSystem is a root with a record and a state.
func runningSystem(t *testing.T, rec stage.Record) string {
	t.Helper()
	root := t.TempDir()
	rec.Format = stage.RecordFormat
	for name, text := range map[string]string{stage.RecordPath: string(rec.Encode()), "etc/machine-id": strings.Repeat("ab", 16) + "\n",
		"etc/ssh/ssh_host_rsa_key": "own", "run/veneer/state/identity/first-boot": ""} {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func identityVerb(t *testing.T, args ...string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	cmd := newRoot()
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	code := run(context.Background(), cmd, append([]string{"identity"}, args...))
	return out.String(), code
}

func TestIdentityIsSavedByTheModesOfTheRecord(t *testing.T) {
	rec := stage.Record{Identity: []stage.Identity{{Name: "machine-id", Mode: "persist"}, {Name: "hostname", Mode: "inherit"}, {Name: "ssh-host-keys", Mode: "persist"}}}
	root := runningSystem(t, rec)
	out, code := identityVerb(t, "save", "--root", root)
	if code != 0 || out != "machine-id: saved\nssh-host-keys: saved\n" {
		t.Errorf("veneer identity save = %d, %q", code, out)
	}
	state := filepath.Join(root, "run/veneer/state/identity")
	if text, err := os.ReadFile(filepath.Join(state, "machine-id")); err != nil || string(text) != strings.Repeat("ab", 16)+"\n" {
		t.Errorf("kept: %q, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(state, "first-boot")); err != nil {
		t.Errorf("the first boot is over before the boot is: %v", err)
	}
	if out, code := identityVerb(t, "save", "--booted", "--root", root); code != 0 || out != "" {
		t.Errorf("saved again = %d, %q", code, out)
	}
	if _, err := os.Stat(filepath.Join(state, "first-boot")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the first boot is not over: %v", err)
	}
	if out, code := identityVerb(t, "keys", "--root", root); code != 0 || out != "" { // there is one
		t.Errorf("veneer identity keys = %d, %q", code, out)
	}
}

func TestAMachineThatKeepsNothingSavesNothing(t *testing.T) {
	root := runningSystem(t, stage.Record{Identity: []stage.Identity{{Name: "machine-id", Mode: "per-boot"}}})
	if err := os.RemoveAll(filepath.Join(root, "run/veneer/state")); err != nil {
		t.Fatal(err)
	}
	if out, code := identityVerb(t, "save", "--root", root); code != 0 || out != "" {
		t.Errorf("veneer identity save = %d, %q", code, out)
	}
}
