package build

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"veneer/images"
)

// The tests of this file talk with the real minisign, which is the other reader and writer of these files.
func minisignTool(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("minisign"); err != nil {
		t.Skip("minisign is not installed: apt install minisign")
	}
	cmd := exec.Command("minisign", args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func newSigner(t *testing.T) (*Signer, KeySpec) {
	t.Helper()
	spec := KeySpec{Path: filepath.Join(t.TempDir(), "test.key")}
	if _, err := GenerateKey(spec); err != nil {
		t.Fatal(err)
	}
	s, err := LoadSigner(spec.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s, spec
}

func TestMinisignAcceptsWhatWeSign(t *testing.T) {
	s, spec := newSigner(t)
	file := filepath.Join(t.TempDir(), "manifest.json")
	for _, content := range []string{"", "{}\n", strings.Repeat("x", 1<<20)} {
		sig, err := s.Sign([]byte(content), "demo 1.0 epoch 1")
		if err != nil {
			t.Fatal(err)
		}
		write(t, file, content)
		write(t, file+".minisig", string(sig))
		out, err := minisignTool(t, "", "-V", "-H", "-p", spec.PublicPath(), "-m", file)
		if err != nil || !strings.Contains(out, "Trusted comment: demo 1.0 epoch 1") {
			t.Errorf("minisign -V of %d bytes: %v, %s", len(content), err, out)
		}
	}
}

func TestMinisignSignsWithOurKeys(t *testing.T) {
	s, spec := newSigner(t)
	file := filepath.Join(t.TempDir(), "m")
	write(t, file, "message")
	for _, args := range [][]string{{"-S", "-t", "by minisign"}, {"-S", "-l", "-t", "by minisign"}} {
		if out, err := minisignTool(t, "", append(args, "-s", spec.Path, "-m", file)...); err != nil {
			t.Fatalf("minisign %v: %v, %s", args, err, out)
		}
		sig, err := images.ParseSignature(read(t, file+".minisig"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := images.Verify([]byte("message"), sig, s.Key())
		if err != nil || got != s.Key() || sig.TrustedComment != "by minisign" {
			t.Errorf("Verify after minisign %v = %v, %v with comment %q", args, got, err, sig.TrustedComment)
		}
		if _, err := images.Verify([]byte("massage"), sig, s.Key()); !errors.Is(err, images.ErrBadSignature) {
			t.Errorf("Verify of another message = %v, want ErrBadSignature", err)
		}
	}
}

func TestKeysAreReadInBothDirectionsUnderAPassphrase(t *testing.T) {
	dir := t.TempDir()
	theirs := filepath.Join(dir, "theirs")
	if out, err := minisignTool(t, "open sesame\nopen sesame\n", "-G", "-p", theirs+".pub", "-s", theirs+".key"); err != nil {
		t.Fatalf("minisign -G: %v, %s", err, out)
	}
	asked := 0
	s, err := LoadSigner(theirs+".key", func() ([]byte, error) { asked++; return []byte("open sesame"), nil })
	if err != nil || asked != 1 {
		t.Fatalf("LoadSigner = %v, asked %d times", err, asked)
	}
	if diff := cmp.Diff(string(read(t, theirs+".pub")), string(s.Public())); diff != "" {
		t.Errorf("public key differs from minisign's (-want +got):\n%s", diff)
	}
	if _, err := LoadSigner(theirs+".key", func() ([]byte, error) { return []byte("wrong"), nil }); err == nil || !strings.Contains(err.Error(), "passphrase is wrong") {
		t.Errorf("LoadSigner with a wrong passphrase = %v", err)
	}
	if _, err := LoadSigner(theirs+".key", nil); !errors.Is(err, ErrNeedPassphrase) {
		t.Errorf("LoadSigner without a passphrase = %v, want ErrNeedPassphrase", err)
	}
	ours := KeySpec{Path: filepath.Join(dir, "ours.key"), Passphrase: []byte("secret")}
	if _, err := GenerateKey(ours); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "m")
	write(t, file, "message")
	if out, err := minisignTool(t, "secret\n", "-S", "-s", ours.Path, "-m", file); err != nil {
		t.Errorf("minisign -S with our key: %v, %s", err, out)
	}
}

func TestSigningTwiceGivesTheSameBytes(t *testing.T) {
	s, _ := newSigner(t)
	a, err := s.Sign([]byte("m"), "c")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := s.Sign([]byte("m"), "c")
	if diff := cmp.Diff(string(a), string(b)); diff != "" {
		t.Error(diff)
	}
}

func TestKeygenWritesModesAndNeverOverwrites(t *testing.T) {
	_, spec := newSigner(t)
	for path, want := range map[string]os.FileMode{spec.Path: 0o600, spec.PublicPath(): 0o644} {
		info, err := os.Stat(path)
		if err != nil || info.Mode() != want {
			t.Errorf("mode of %s = %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	before := read(t, spec.Path)
	if _, err := GenerateKey(spec); !errors.Is(err, os.ErrExist) {
		t.Errorf("second GenerateKey = %v, want ErrExist", err)
	}
	if err := os.Remove(spec.Path); err != nil {
		t.Fatal(err)
	}
	if _, err := GenerateKey(spec); !errors.Is(err, os.ErrExist) {
		t.Errorf("GenerateKey beside a public key = %v, want ErrExist", err)
	}
	spec.Force = true
	if _, err := GenerateKey(spec); err != nil || string(read(t, spec.Path)) == string(before) {
		t.Errorf("GenerateKey with Force = %v, or the old key is still there", err)
	}
	entries, _ := os.ReadDir(filepath.Dir(spec.Path))
	if len(entries) != 2 {
		t.Errorf("%v left behind, want the two keys alone", entries)
	}
}

func TestPassphrasesThatMinisignCouldNotTakeAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"": "is empty", strings.Repeat("x", 1023): "longer than the 1022 bytes", "a\x00b": "NUL byte", "a\nb": "end of line", "a\rb": "end of line",
		strings.Repeat("x", 1022): "", "pässword with spaces": "",
	} {
		if err := CheckPassphrase([]byte(text)); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("CheckPassphrase(%.20q) = %v, want %q", text, err, want)
		}
	}
	spec := KeySpec{Path: filepath.Join(t.TempDir(), "x.key"), Passphrase: []byte("a\x00b")}
	if _, err := GenerateKey(spec); err == nil || spec.Check() != nil {
		t.Errorf("GenerateKey with a NUL in the passphrase = %v, and then Check() = %v", err, spec.Check())
	}
}

func TestPlacingAFileLosesTheRaceToWhoeverWasFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "first")
	if err := placeFile(path, []byte("second"), 0o600, false); !errors.Is(err, os.ErrExist) {
		t.Errorf("placeFile = %v, want ErrExist", err)
	}
	if got := string(read(t, path)); got != "first" {
		t.Errorf("content = %q", got)
	}
}

func TestBadSecretKeysAreRefusedWithTheReason(t *testing.T) {
	s, spec := newSigner(t)
	good := string(read(t, spec.Path))
	lines := strings.Split(good, "\n")
	// The last key bytes before the checksum are the public half.
	twisted := lines[0] + "\n" + lines[1][:150] + "AAAA" + lines[1][154:] + "\n"
	for name, c := range map[string]struct{ text, want string }{
		"a public key":             {string(s.Public()), "this is a public key"},
		"an empty file":            {"", "not a minisign secret key"},
		"noise":                    {"hello\nworld\n", "not a minisign secret key"},
		"halves of two keys":       {twisted, "does not hold"},
		"a file beyond all bounds": {strings.Repeat("x", 1<<20), "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "bad.key")
			write(t, path, c.text)
			if _, err := LoadSigner(path, nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("LoadSigner = %v, want %q", err, c.want)
			}
		})
	}
}

func TestCommentsOfSeveralLinesAreRefused(t *testing.T) {
	s, spec := newSigner(t)
	if _, err := s.Sign(nil, "a\nb"); err == nil {
		t.Error("Sign took a comment of two lines")
	}
	spec.Comment, spec.Force = "a\nb", true
	if _, err := GenerateKey(spec); err == nil {
		t.Error("GenerateKey took a comment of two lines")
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
