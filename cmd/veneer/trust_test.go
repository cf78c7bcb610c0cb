//go:build !onboard

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// veneer runs the command as a user does, and returns its exit code and what it printed.
func veneer(t *testing.T, words ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(&errs)
	code = run(t.Context(), root, words)
	return code, out.String(), errs.String()
}

func TestKeygenMakesAPairAndLeavesThoseThatAreThere(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "release.key")
	code, out, errs := veneer(t, "keygen", "-o", secret, "--no-passphrase", "--comment", "builds of the CI")
	if code != 0 || !strings.Contains(out, secret) || errs != "" {
		t.Fatalf("veneer keygen = %d\n%s%s", code, out, errs)
	}
	public, err := os.ReadFile(strings.TrimSuffix(secret, ".key") + ".pub")
	if err != nil || !strings.Contains(string(public), "builds of the CI\n") {
		t.Errorf("public key = %q, %v", public, err)
	}
	if code, _, errs := veneer(t, "keygen", "-o", secret, "--no-passphrase"); code != exitFailed || !strings.Contains(errs, "--force") {
		t.Errorf("second veneer keygen = %d, %s", code, errs)
	}
	if code, _, errs := veneer(t, "keygen", "-o", secret, "--no-passphrase", "--force"); code != 0 {
		t.Errorf("veneer keygen --force = %d, %s", code, errs)
	}
}

func TestKeygenRefusesFlagsThatContradict(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\nsecond line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		words []string
		code  int
		says  string
	}{
		{[]string{"--no-passphrase", "--passphrase-file", empty}, exitUsage, "contradict"},
		{[]string{"--passphrase-file", empty}, exitFailed, "is empty"},
		{[]string{"--passphrase-file", empty + "-not"}, exitFailed, "no such file"},
		{[]string{"a", "b"}, exitUsage, "keygen"},
	} {
		secret := filepath.Join(t.TempDir(), "x.key")
		code, _, errs := veneer(t, append([]string{"keygen", "-o", secret}, c.words...)...)
		if code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("veneer keygen %v = %d, %s; want %d and %q", c.words, code, errs, c.code, c.says)
		}
		if _, err := os.Lstat(secret); err == nil {
			t.Errorf("veneer keygen %v made a key", c.words)
		}
	}
}

func TestVerifyListsWhatIsWrongAndExitsWithOne(t *testing.T) {
	dir := t.TempDir()
	manifest, err := os.ReadFile("../../images/testdata/good-full.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.json"), manifest, 0o644); err != nil {
		t.Fatal(err)
	}
	public := filepath.Join("..", "..", "images", "testdata", "good.pub")
	code, out, _ := veneer(t, "verify", "--key", public, dir)
	for _, want := range []string{"BAD    signature", "ok     manifest", "BAD    kernel", "BAD    initramfs", "BAD    base", "6 of 7 checks failed"} {
		if code != exitFailed || !strings.Contains(out, want) {
			t.Errorf("veneer verify = %d, want %d and %q in:\n%s", code, exitFailed, want, out)
		}
	}
	code, out, _ = veneer(t, "verify", "--json", "--key", public, dir)
	var report struct {
		Kind   string
		Checks []struct{ What, Error string }
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != exitFailed || report.Kind != "output" || len(report.Checks) == 0 {
		t.Errorf("veneer verify --json = %d, %v\n%s", code, err, out)
	}
	if code, _, errs := veneer(t, "verify", "--key", filepath.Join(dir, "manifest.json"), dir); code != exitFailed || !strings.Contains(errs, "minisign public key") {
		t.Errorf("veneer verify with a key that is none = %d, %s", code, errs)
	}
}

func TestInspectPrintsForPeopleAndForPrograms(t *testing.T) {
	path := filepath.Join("..", "..", "images", "testdata", "good-full.json")
	if code, out, errs := veneer(t, "inspect", path); code != 0 || !strings.Contains(out, "demo 1.0, epoch 7") {
		t.Errorf("veneer inspect = %d\n%s%s", code, out, errs)
	}
	code, out, errs := veneer(t, "inspect", "--json", path)
	var report struct {
		Kind     string
		Manifest struct{ Name string }
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 || report.Manifest.Name != "demo" {
		t.Errorf("veneer inspect --json = %d, %v\n%s%s", code, err, out, errs)
	}
	if code, _, errs := veneer(t, "inspect", filepath.Join(t.TempDir(), "nothing")); code != exitFailed || !strings.Contains(errs, "no such file") {
		t.Errorf("veneer inspect of nothing = %d, %s", code, errs)
	}
}
