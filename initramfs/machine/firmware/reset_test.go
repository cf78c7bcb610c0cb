package firmware

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf16"

	"golang.org/x/sys/unix"
)

const (
	asked = "0123456789abcdef0123456789abcdef"
	later = "fedcba98-7654-3210-fedc-ba9876543210"
)

// variable is what the firmware has of a text: attributes (non-volatile, for boot services and the system), then UTF-16.
func variable(text string) []byte {
	raw := []byte{7, 0, 0, 0}
	for _, u := range append(utf16.Encode([]rune(text)), 0) {
		raw = append(raw, byte(u), byte(u>>8))
	}
	return raw
}

func sys(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	vars := filepath.Join(dir, "firmware/efi/efivars")
	if err := os.MkdirAll(vars, 0o755); err != nil {
		t.Fatal(err)
	}
	if text != "" {
		if err := os.WriteFile(filepath.Join(vars, resetVariable), variable(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestARequestIsReadForWhomItIs(t *testing.T) {
	dir := sys(t, `{"osReleaseId":"debian","osReleaseImageId":"kiosk","bootId":"`+asked+`","more":{"a":["}",1]}}`)
	r, ok, err := ResetRequested(dir)
	if err != nil || !ok || r != (Reset{"debian", "kiosk", asked}) {
		t.Fatalf("ResetRequested = %+v, %v, %v", r, ok, err)
	}
	for _, c := range []struct {
		name, osRelease, boot string
		want                  bool
	}{
		{"the system that asked, one boot later", "NAME=x\nID=debian\nIMAGE_ID=\"kiosk\"\n", later, true},
		{"the boot that asked", "ID=debian\nIMAGE_ID=kiosk\n", "01234567-89ab-cdef-0123-456789abcdef", false},
		{"another image", "ID=debian\nIMAGE_ID=till\n", later, false},
		{"no image", "ID=debian\n", later, false},
		{"another system", "ID='fedora'\nIMAGE_ID=kiosk\n", later, false},
	} {
		if got := r.For([]byte(c.osRelease), c.boot); got != c.want {
			t.Errorf("%s: For = %v, want %v", c.name, got, c.want)
		}
	}
	if err := ClearReset(dir); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := ResetRequested(dir); ok || err != nil {
		t.Errorf("after ClearReset there is %v, %v", ok, err)
	}
	if err := ClearReset(dir); err != nil {
		t.Errorf("ClearReset of nothing: %v", err)
	}
}

func TestWhereNobodyAsksNothingHappens(t *testing.T) {
	for name, dir := range map[string]string{"a BIOS": t.TempDir(), "no variable": sys(t, "")} {
		if _, ok, err := ResetRequested(dir); ok || err != nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
	for _, text := range []string{"1", "{", "{}", `{"osReleaseId":"x"}`, `{"osReleaseId":"x","bootId":"y"}`, `{"bootId":"` + asked + `"}`, `["osReleaseId","x"]`} {
		if r, ok, err := ResetRequested(sys(t, text)); ok || err == nil {
			t.Errorf("%s: %+v, %v, want an error", text, r, ok)
		}
	}
}

func TestTheImmutableFlagIsCleared(t *testing.T) {
	dir := sys(t, "x")
	name := filepath.Join(dir, "firmware/efi/efivars", resetVariable)
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0x10); err != nil {
		t.Skipf("chattr +i: %v: run the tests as root on a file system with flags", err)
	}
	if err := ClearReset(dir); err != nil {
		t.Error(err)
	}
}

func FuzzParseReset(f *testing.F) {
	f.Add(`{"osReleaseId":"debian","bootId":"` + asked + `"}`)
	f.Add(`{"a":{"osReleaseId":"x"},"osReleaseId":"d\"é\/","osReleaseImageId":"i","bootId":"` + asked + `"}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseReset(variable(text))
		parseReset([]byte(text))
		var want map[string]any
		if err != nil || json.Unmarshal([]byte(text), &want) != nil {
			return // what is no JSON may be taken for what it nearly is: nothing is done that a valid text could not ask for
		}
		// encoding/json takes the last of two fields of one name, and so do we.
		if id, ok := want["osReleaseId"].(string); ok && id != r.ID {
			t.Errorf("%q: the ID is %q, want %q", text, r.ID, id)
		}
	})
}
