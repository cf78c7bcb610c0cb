package images

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The fixtures in testdata were made with minisign 0.11.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func key(t testing.TB, name string) PublicKey {
	t.Helper()
	k, err := ParsePublicKey(fixture(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSignaturesOfMinisignHold(t *testing.T) {
	good, stranger, message := key(t, "good.pub"), key(t, "stranger.pub"), fixture(t, "message")
	for _, name := range []string{"good-prehashed.minisig", "good-legacy.minisig"} {
		t.Run(name, func(t *testing.T) {
			s, err := ParseSignature(fixture(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(s.TrustedComment, "by minisign 0.11") {
				t.Errorf("trusted comment = %q", s.TrustedComment)
			}
			if got, err := Verify(message, s, stranger, good); err != nil || got != good {
				t.Errorf("Verify = %v, %v; want %v", got.ID, err, good.ID)
			}
		})
	}
}

func TestVerifyTellsAStrangerFromAForger(t *testing.T) {
	good, stranger, message := key(t, "good.pub"), key(t, "stranger.pub"), fixture(t, "message")
	s, err := ParseSignature(fixture(t, "good-prehashed.minisig"))
	if err != nil {
		t.Fatal(err)
	}
	disguised := stranger // another key that claims the same ID
	disguised.ID = good.ID
	recommented := s
	recommented.TrustedComment = "something else"
	cases := []struct {
		name    string
		message string
		s       Signature
		keys    []PublicKey
		want    error
		says    string
	}{
		{"no keys", string(message), s, nil, ErrUnknownKey, "trusted: none"},
		{"another key", string(message), s, []PublicKey{stranger}, ErrUnknownKey, "trusted: " + stranger.ID.String()},
		{"another key under the same ID", string(message), s, []PublicKey{disguised}, ErrBadSignature, good.ID.String()},
		{"another message", "x", s, []PublicKey{good}, ErrBadSignature, good.ID.String()},
		{"another trusted comment", string(message), recommented, []PublicKey{good}, ErrBadSignature, good.ID.String()},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Verify([]byte(c.message), c.s, c.keys...)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Verify = %v, want %v with %q", err, c.want, c.says)
			}
		})
	}
	if got, err := Verify(message, s, disguised, good); err != nil || got != good {
		t.Errorf("Verify behind a key with the same ID = %v, %v", got.ID, err)
	}
}

func TestNoByteOfASignatureCanBeChanged(t *testing.T) {
	good, message := key(t, "good.pub"), fixture(t, "message")
	for _, name := range []string{"good-prehashed.minisig", "good-legacy.minisig"} {
		text := fixture(t, name)
		begin := strings.Index(string(text), "\n") + 1 // the untrusted comment says its name
		for i := begin; i < len(text)-1; i++ {
			bent := []byte(string(text))
			bent[i] ^= 1
			s, err := ParseSignature(bent)
			if err != nil {
				continue
			}
			if _, err := Verify(message, s, good); err == nil {
				t.Errorf("%s with byte %d flipped still holds", name, i)
			}
		}
	}
}

func TestKeyIDsArePrintedAsMinisignPrintsThem(t *testing.T) {
	text := string(fixture(t, "good.pub"))
	line, _, _ := strings.Cut(text, "\n")
	if got := key(t, "good.pub").ID.String(); !strings.HasSuffix(line, " "+got) {
		t.Errorf("ID = %s, minisign wrote %q", got, line)
	}
	if got := (KeyID{0xef, 0xcd, 0xab}).String(); got != "ABCDEF" {
		t.Errorf("ID with zeros in front = %s, want ABCDEF", got)
	}
}

func TestFilesThatAreNotMinisignsAreRefused(t *testing.T) {
	pub, sig := string(fixture(t, "good.pub")), string(fixture(t, "good-prehashed.minisig"))
	bend := func(s string, line int, f func(string) string) string {
		lines := strings.Split(s, "\n")
		lines[line] = f(lines[line])
		return strings.Join(lines, "\n")
	}
	cut := func(s string) string { return s[:len(s)-4] }
	for name, text := range map[string]string{
		"nothing": "", "one newline": "\n", "a signature": sig, "a cut key": bend(pub, 1, cut), "too large": strings.Repeat("x", maxKeyFile+1),
		"another algorithm": bend(pub, 1, func(s string) string { return "RU" + s[2:] }),
		"two keys":          pub + pub, "blanks": bend(pub, 1, func(s string) string { return s + " " }),
	} {
		if k, err := ParsePublicKey([]byte(text)); err == nil {
			t.Errorf("ParsePublicKey of %s = %v", name, k.ID)
		}
	}
	for name, text := range map[string]string{
		"nothing": "", "a key": pub, "a cut": bend(sig, 1, cut), "a cut global": bend(sig, 3, cut), "too large": strings.Repeat("\n", MaxSignature+1),
		"no untrusted comment": bend(sig, 0, func(string) string { return "x" }), "no trusted comment": bend(sig, 2, func(string) string { return "x" }),
		"another algorithm": bend(sig, 1, func(s string) string { return "AA" + s[2:] }), "a fifth line": sig + "x\n",
	} {
		if s, err := ParseSignature([]byte(text)); err == nil {
			t.Errorf("ParseSignature of %s = %v", name, s.KeyID)
		}
	}
	if _, err := ParsePublicKey([]byte(strings.Split(pub, "\n")[1])); err != nil {
		t.Errorf("ParsePublicKey of the base64 line alone = %v", err)
	}
	if _, err := ParseSignature([]byte(strings.ReplaceAll(sig, "\n", "\r\n"))); err != nil {
		t.Errorf("ParseSignature with the line ends of other systems = %v", err)
	}
}

func FuzzParsePublicKey(f *testing.F) {
	f.Add(fixture(f, "good.pub"))
	f.Add(fixture(f, "good-legacy.minisig"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if k, err := ParsePublicKey(text); err == nil && (k.ID.String() == "" || len(text) > maxKeyFile) {
			t.Errorf("accepted %d bytes as key %v", len(text), k)
		}
	})
}

func FuzzParseSignature(f *testing.F) {
	f.Add(fixture(f, "good-prehashed.minisig"))
	f.Add(fixture(f, "good-legacy.minisig"))
	good := key(f, "good.pub")
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseSignature(text)
		if err != nil {
			return
		}
		if strings.Contains(s.TrustedComment, "\n") || len(text) > MaxSignature {
			t.Errorf("accepted %q", text)
		}
		if _, err := Verify([]byte("never signed"), s, good); err == nil {
			t.Errorf("a signature of something else holds: %q", text)
		}
	})
}
