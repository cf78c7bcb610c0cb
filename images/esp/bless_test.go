package esp

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAnEntryIsGoodOnceItHasNoCount(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files []string
		left  string
		says  string
	}{
		{"counted", []string{"kiosk-1+2-1.efi", "kiosk-0.efi"}, "kiosk-0.efi kiosk-1.efi", ""},
		{"good already", []string{"kiosk-1.efi"}, "kiosk-1.efi", ""},
		{"both are there", []string{"kiosk-1+2-1.efi", "kiosk-1.efi"}, "kiosk-1+2-1.efi kiosk-1.efi", "remove the one"},
		{"gone", []string{"kiosk-2.efi"}, "kiosk-2.efi", "no longer there"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.MkdirAll(filepath.Join(root, "EFI/Linux"), 0o755); err != nil {
				t.Fatal(err)
			}
			for _, f := range tt.files {
				if err := os.WriteFile(filepath.Join(root, "EFI/Linux", f), []byte(f), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			err := Counted{Path: "EFI/Linux/kiosk-1+2-1.efi"}.blessIn(Files{Root: root})
			if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("error %v, want one with %q", err, tt.says)
			}
			list, err := os.ReadDir(filepath.Join(root, "EFI/Linux"))
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, e := range list {
				names = append(names, e.Name())
			}
			if got := strings.Join(names, " "); got != tt.left {
				t.Errorf("it leaves %s, want %s", got, tt.left)
			}
		})
	}
}

func TestTheVariableOfALoaderIsText(t *testing.T) {
	dir := t.TempDir()
	for content, want := range map[string]string{
		"\x06\x00\x00\x00\\\x00E\x00\x00\x00": `\E`,
		"\x06\x00\x00\x00\\\x00":              `\`,
		"\x06\x00\x00\x00":                    "",
		"":                                    "",
		"\x06\x00\x00\x00a":                   "",
	} {
		if err := os.WriteFile(filepath.Join(dir, countPath), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := variable(dir, countPath)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("variable(%q) = %q, %v, want %q", content, got, err, want)
		}
	}
	if _, err := Running(filepath.Join(dir, "nothing")); !errors.Is(err, ErrNotCounted) {
		t.Errorf("without UEFI: %v", err)
	}
}
