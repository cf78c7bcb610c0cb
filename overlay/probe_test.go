package overlay_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"veneer/overlay"
	"veneer/overlay/mount/mounttest"
)

// formatted mounts a new file system of the kind, made by the words, in a directory of its own.
func formatted(t *testing.T, kind string, size int64, words ...string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting an image takes root: sudo go test ./overlay")
	}
	if _, err := exec.LookPath(words[0]); err != nil {
		t.Skipf("%v: install e2fsprogs, btrfs-progs, xfsprogs, dosfstools", err)
	}
	if known, err := os.ReadFile("/proc/filesystems"); err != nil || !strings.Contains(string(known), "\t"+kind+"\n") {
		t.Skipf("this kernel has no %s; try on another", kind)
	}
	file, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, size)); err != nil {
		t.Fatal(err)
	}
	run := func(words ...string) {
		t.Helper()
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", words, err, out)
		}
	}
	run(append(words, file)...)
	if out, err := exec.Command("mount", "-o", "loop", "-t", kind, file, dir).CombinedOutput(); err != nil {
		t.Skipf("this kernel does not mount what %q makes; try on another: %v\n%s", words, err, out)
	}
	t.Cleanup(func() { run("umount", dir) })
	return dir
}

// mounted mounts a file system that needs no device.
func mounted(t *testing.T, kind string, flags uintptr, data string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(kind, dir, kind, flags, data); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestProbeUpperTakesTheFileSystemsThatCan(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	const mib = 1 << 20
	for _, tt := range []struct {
		kind  string
		size  int64
		words []string
	}{
		{"ext4", 32 * mib, []string{"mkfs.ext4", "-q"}},
		{"btrfs", 128 * mib, []string{"mkfs.btrfs", "-q"}},
		{"xfs", 320 * mib, []string{"mkfs.xfs", "-q"}},
	} {
		t.Run(tt.kind, func(t *testing.T) { takes(t, formatted(t, tt.kind, tt.size, tt.words...)) })
	}
	t.Run("tmpfs", func(t *testing.T) { takes(t, mounted(t, "tmpfs", 0, "")) })
}

// takes checks that the directory passes, whatever an earlier probe left, and that nothing of it stays.
func takes(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, ".veneer-probe/work/work/inner"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".veneer-probe/file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if err := overlay.ProbeUpper(dir); err != nil {
		t.Errorf("ProbeUpper() = %v, want it to pass", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, ".veneer-probe")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what ProbeUpper tried is still there: %v", err)
	}
	if after, err := os.ReadFile("/proc/self/mountinfo"); err != nil || string(after) != string(before) {
		t.Errorf("ProbeUpper left a mount:\n%s", after)
	}
}

// A directory that passed carries a mark, and is tried again only where the mark is not this kernel's and this file system's.
func TestWhatPassedIsNotTriedAgain(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	dir := formatted(t, "ext4", 32<<20, "mkfs.ext4", "-q")
	left := filepath.Join(dir, ".veneer-probe")
	tried := func() bool {
		t.Helper()
		if err := os.MkdirAll(left, 0o700); err != nil {
			t.Fatal(err)
		}
		probed, err := overlay.Probed(dir)
		if err == nil && !probed {
			err = overlay.ProbeUpper(dir)
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = os.Lstat(left)
		return errors.Is(err, os.ErrNotExist) // a trial begins by removing what an earlier one left
	}
	if !tried() || tried() {
		t.Error("a directory is to be tried once")
	}
	mark := make([]byte, 256)
	n, err := unix.Getxattr(dir, "trusted.veneer.probed", mark)
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{strings.Replace(string(mark[:n]), "1 ", "1 0.", 1), string(mark[:n-1]), string(mark[:n]) + "0", ""} {
		if err := unix.Setxattr(dir, "trusted.veneer.probed", []byte(other), 0); err != nil {
			t.Fatal(err)
		}
		if !tried() || tried() {
			t.Errorf("the mark %q is to be replaced", other)
		}
	}
	fill, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	defer fill.Close()
	for block := make([]byte, 1<<16); ; {
		if _, err := fill.Write(block); err != nil {
			break
		}
	}
	if _, err := overlay.Probed(dir); !errors.Is(err, overlay.ErrNoRoom) {
		t.Errorf("Probed of what passed and has filled up = %v, want ErrNoRoom", err)
	}
}

func TestProbeUpperRefusesTheOthersWithTheRemedy(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	refused := func(t *testing.T, dir string, want ...string) {
		t.Helper()
		err := overlay.ProbeUpper(dir)
		if err == nil || errors.Is(err, overlay.ErrNoRoom) {
			t.Fatalf("ProbeUpper() = %v, want a refusal", err)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("ProbeUpper() = %v, want it to say %q", err, w)
			}
		}
		if _, err := os.Lstat(filepath.Join(dir, ".veneer-probe")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("what ProbeUpper tried is still there: %v", err)
		}
	}
	const remedy = "use ext4, xfs (ftype=1) or btrfs, or veneer.upper=tmpfs"
	t.Run("vfat", func(t *testing.T) {
		refused(t, formatted(t, "vfat", 16<<20, "mkfs.vfat"), "upper on vfat cannot keep the attribute", remedy)
	})
	t.Run("xfs without ftype", func(t *testing.T) {
		refused(t, formatted(t, "xfs", 320<<20, "mkfs.xfs", "-q", "-m", "crc=0", "-n", "ftype=0"), "upper on xfs cannot tell the type", remedy)
	})
	t.Run("an ext4 that folds case", func(t *testing.T) {
		refused(t, formatted(t, "ext4", 32<<20, "mkfs.ext4", "-q", "-O", "casefold"), "upper on ext4 cannot carry an overlay", remedy)
	})
	t.Run("overlay", func(t *testing.T) {
		dir := mounted(t, "tmpfs", 0, "")
		for _, name := range []string{"l", "u", "w"} {
			if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		data := strings.ReplaceAll("lowerdir=D/l,upperdir=D/u,workdir=D/w", "D", dir)
		refused(t, mounted(t, "overlay", 0, data), "upper on overlay cannot", remedy)
	})
	t.Run("one without attributes", func(t *testing.T) {
		refused(t, mounted(t, "ramfs", 0, ""), "cannot keep the attribute", remedy)
	})
	t.Run("mounted read-only", func(t *testing.T) {
		refused(t, mounted(t, "tmpfs", unix.MS_RDONLY, ""), "tmpfs there is mounted read-only")
	})
	t.Run("a link", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink("/", dir); err != nil {
			t.Fatal(err)
		}
		refused(t, dir, "probe upper")
	})
}

func TestAFullFileSystemIsToldFromAnUnfitOne(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	for name, data := range map[string]string{"blocks": "size=16k", "inodes": "nr_inodes=4"} {
		t.Run("no "+name, func(t *testing.T) {
			if err := overlay.ProbeUpper(mounted(t, "tmpfs", 0, data)); !errors.Is(err, overlay.ErrNoRoom) {
				t.Errorf("ProbeUpper() = %v, want ErrNoRoom", err)
			}
		})
	}
}
