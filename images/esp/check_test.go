package esp

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatIsNoFATIsNoSystemPartition(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct{ dir, store, want string }{
		"the file system of the store": {dir, t.TempDir(), "lies on the file system of the store"},
		"another that is not FAT":      {"/proc", dir, "is not on FAT"},
		"nothing":                      {filepath.Join(dir, "none"), dir, "no such file"},
	} {
		if err := Check(c.dir, c.store); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Check() = %v, want %q", name, err, c.want)
		}
	}
}

func TestWhatIsNotOursOnASystemPartitionIsNotDeleted(t *testing.T) {
	f := Files{Root: t.TempDir()}
	for _, name := range []string{"EFI/BOOT/.new-dir/x", "EFI/BOOT/.new-notes", "EFI/BOOT/.new-BOOTX64.EFI", "EFI/BOOT/grub.cfg", "EFI/BOOT/full/x"} {
		if err := os.MkdirAll(filepath.Dir(f.at(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.at(name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Sweep("EFI/BOOT", "EFI/none"); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove("EFI/BOOT/full"); err == nil {
		t.Error("Remove() of a directory with a file in it succeeds")
	}
	if err := f.Remove("EFI/BOOT/none"); err != nil {
		t.Errorf("Remove() of nothing = %v", err)
	}
	for name, stays := range map[string]bool{"EFI/BOOT/.new-dir/x": true, "EFI/BOOT/.new-notes": true, "EFI/BOOT/.new-BOOTX64.EFI": false, "EFI/BOOT/grub.cfg": true, "EFI/BOOT/full/x": true} {
		if _, err := os.Stat(f.at(name)); (err == nil) != stays {
			t.Errorf("%s: %v, want it there: %v", name, err, stays)
		}
	}
}
