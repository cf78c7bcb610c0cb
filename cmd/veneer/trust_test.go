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

func TestKeygenForSecureBootTakesNoFlagOfTheOtherKeys(t *testing.T) {
	for _, flag := range []string{"--force", "--no-passphrase", "--output=x.key"} {
		dir := filepath.Join(t.TempDir(), "keys")
		code, _, errs := veneer(t, "keygen", "--secure-boot", dir, flag)
		if _, err := os.Stat(dir); code != exitUsage || !strings.Contains(errs, "does not go with --secure-boot") || err == nil {
			t.Errorf("%s: veneer keygen = %d, %s, %v", flag, code, errs, err)
		}
	}
}

func TestKeygenSaysWhyItMakesNoKey(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	long := strings.Repeat("x", 1022)
	for _, c := range []struct {
		name  string
		words []string
		code  int
		says  string
	}{
		{"flags that contradict", []string{"--no-passphrase", "--passphrase-file", "x"}, exitUsage, "contradict"},
		{"arguments", []string{"a", "b"}, exitUsage, "See 'veneer help keygen'"},
		{"an empty first line", []string{"--passphrase-file", file("line", "\nsecond line\n")}, exitFailed, "is empty"},
		{"an empty file", []string{"--passphrase-file", file("empty", "")}, exitFailed, "is empty"},
		{"no such passphrase file", []string{"--passphrase-file", filepath.Join(dir, "not")}, exitFailed, "no such file"},
		{"a passphrase that minisign would cut", []string{"--passphrase-file", file("long", long+"x\n")}, exitFailed, "longer than the 1022 bytes"},
		{"a passphrase that we would cut", []string{"--passphrase-file", file("longer", strings.Repeat("x", 1<<20))}, exitFailed, "longer than the 1022 bytes"},
		{"a passphrase with a NUL", []string{"--passphrase-file", file("nul", "abc\x00def\n")}, exitFailed, "NUL"},
		{"no name", []string{"--no-passphrase", "-o", ""}, exitUsage, "-o: want the name of a file"},
		{"the name of a directory", []string{"--no-passphrase", "-o", dir}, exitFailed, "is a directory: name a file in it"},
		{"a name that ends as a directory's", []string{"--no-passphrase", "-o", dir + "/new/"}, exitFailed, "want the name of a file"},
		{"a directory that is not there, before anybody is asked", []string{"-o", dir + "/none/x.key"}, exitFailed, dir + "/none for the keys: file does not exist: make it (mkdir -p)"},
		{"a file for a directory", []string{"--no-passphrase", "-o", filepath.Join(file("f", ""), "x.key")}, exitFailed, "is a file"},
		{"a directory that nobody can write to", []string{"--no-passphrase", "-o", "/proc/self/x.key"}, exitFailed, "/proc/self for the keys: nothing can be written there: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			secret := filepath.Join(t.TempDir(), "x.key")
			code, _, errs := veneer(t, append([]string{"keygen", "-o", secret}, c.words...)...)
			if code != c.code || !strings.Contains(errs, c.says) || strings.Contains(errs, ".veneer-") {
				t.Errorf("veneer keygen %v = %d, %s; want %d and %q", c.words, code, errs, c.code, c.says)
			}
			if _, err := os.Lstat(secret); err == nil {
				t.Errorf("veneer keygen %v made a key", c.words)
			}
		})
	}
	secret := filepath.Join(dir, "good.key")
	if code, _, errs := veneer(t, "keygen", "-o", secret, "--passphrase-file", file("longest", long+"\r\nsecond line\n")); code != 0 {
		t.Errorf("veneer keygen with the longest passphrase = %d, %s", code, errs)
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

func TestABrokenManifestIsNamedWithItsLine(t *testing.T) {
	for name, c := range map[string]struct{ text, says string }{
		"a field of another type": {`{"format":"1"}`, "line 1: "},
		"a manifest that is cut":  {"{\n  \"format\": 1,\n", "line 3: "},
		"an object of others":     {"{\n  \"icons\": []\n}\n", "line 2: "},
		"an empty file":           {"", ""}, // inspect cannot know that it was to be a manifest
	} {
		path := filepath.Join(t.TempDir(), "manifest.json")
		if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		key := filepath.Join("..", "..", "images", "testdata", "good.pub")
		for _, words := range [][]string{{"inspect", path}, {"inspect", filepath.Dir(path)}, {"verify", "--key", key, path}, {"verify", "--key", key, filepath.Dir(path)},
			{"plan", "--manifest", path}, {"plan", "--manifest", filepath.Dir(path)}} {
			t.Run(name+": "+words[0]+" "+filepath.Base(words[len(words)-1]), func(t *testing.T) {
				code, out, errs := veneer(t, words...)
				said := out + errs
				if code != exitFailed || !strings.Contains(said, path) || !strings.Contains(said, c.says) {
					t.Errorf("veneer %v = %d, want %d, %q and %q in:\n%s", words, code, exitFailed, path, c.says, said)
				}
				for _, never := range []string{"Go struct", "JSON input", "unmarshal"} {
					if strings.Contains(said, never) {
						t.Errorf("veneer %v speaks Go: %s", words, said)
					}
				}
			})
		}
	}
}
