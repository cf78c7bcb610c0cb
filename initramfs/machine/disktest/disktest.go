// Package disktest gives tests loop devices, and a mount namespace to use them in. Tests of initramfs/machine, images/device and
// stage/keeper/disk use it; images and overlay/mount/mounttest sit below it.
package disktest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"veneer/images"
	"veneer/overlay/mount/mounttest"
)

// InNamespace is mounttest.InNamespace for tests that take loop devices, mkfs and a /run of their own.
func InNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("loop devices take root: sudo go test")
	}
	for _, program := range []string{"mkfs.ext4", "mkfs.btrfs", "mkfs.xfs"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%v: install e2fsprogs, btrfs-progs, xfsprogs", err)
		}
	}
	if !mounttest.InNamespace(t) {
		return false
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	return true
}

// Loop attaches a sparse file of that size as a loop device, for the rest of the test.
func Loop(t *testing.T, size int64) string {
	t.Helper()
	return LoopOn(t, filepath.Join(t.TempDir(), "disk"), size)
}

// LoopOn is Loop on a file of that name.
func LoopOn(t *testing.T, file string, size int64) string {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	d, err := images.AttachWritable(f, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d.Path
}

// Run runs a program, which must succeed, and returns what it said.
func Run(t *testing.T, words ...string) string {
	t.Helper()
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", words, err, out)
	}
	return string(out)
}

// Poke changes bytes of a device durably; a negative offset counts from its end.
func Poke(t *testing.T, device string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if at < 0 {
		end, err := f.Seek(0, 2)
		if err != nil {
			t.Fatal(err)
		}
		at += end
	}
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}
