package device

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"veneer/images/disk"
	"veneer/initramfs/machine/disktest"
	"veneer/initramfs/machine/probe"
)

const mib = 1 << 20

// loop is a loop device of that size on the file "device" in dir, for the rest of the test.
func loop(t *testing.T, dir string, size int64) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("loop devices take root: sudo go test")
	}
	return disktest.LoopOn(t, filepath.Join(dir, "device"), size)
}

// image makes a disk with a GPT of one partition, which is noise but for its beginning.
func image(t *testing.T, size int) string {
	t.Helper()
	content := make([]byte, size-2*mib)
	_, _ = rand.Read(content) // never fails
	clear(content[:128<<10])  // noise may be anything
	dir := t.TempDir()
	part := filepath.Join(dir, "part")
	if err := os.WriteFile(part, content, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = disk.Write(f, "8F0E1A5C-6D0B-4C5E-9B54-1C3D9F1E2A01", disk.Sector, 0, disk.Partition{Name: "base", GUID: "8F0E1A5C-6D0B-4C5E-9B54-1C3D9F1E2A02", Type: disk.TypeLinux, Image: part})
	if err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func spec(t *testing.T, image, path string) Spec {
	t.Helper()
	img, err := Open(image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = img.Close() })
	target, err := Look(path)
	if err != nil {
		t.Fatal(err)
	}
	return Spec{Image: img, Target: target}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAnImageIsWrittenAndReadBackAndWhatLayThereIsGone(t *testing.T) {
	dev, img := loop(t, t.TempDir(), 32*mib), image(t, 10*mib)
	run(t, "sh", "-c", "tr '\\0' '\\377' </dev/zero | head -c 33554432 >"+dev)
	s := spec(t, img, dev)
	var seen []string
	s.Progress = func(what string, done, total int64) {
		if done == total {
			seen = append(seen, what)
		}
	}
	if err := Write(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	got, want := read(t, dev), read(t, img)
	if !bytes.Equal(got[:len(want)], want) {
		t.Error("the device does not begin with the image")
	}
	for _, at := range []int{len(want), len(want) + mib, len(got) - mib} {
		if !bytes.Equal(got[at:at+mib], make([]byte, mib)) {
			t.Errorf("what lay at byte %d is still there", at)
		}
	}
	if strings.Join(seen, " ") != "write verify" {
		t.Errorf("progress to the end of %q, want write and verify", seen)
	}
}

func TestADeviceInUseIsRefusedAndStaysAsItIs(t *testing.T) {
	for _, c := range []struct {
		name, want string
		use        func(t *testing.T, dev string)
	}{
		{"mounted", "is mounted on ", func(t *testing.T, dev string) {
			run(t, "mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", dev)
			at := filepath.Join(t.TempDir(), "a b")
			if err := os.Mkdir(at, 0o755); err != nil {
				t.Fatal(err)
			}
			run(t, "mount", "-o", "ro", dev, at)
			t.Cleanup(func() { run(t, "umount", at) })
		}},
		{"swapped to", "is swap: swapoff", func(t *testing.T, dev string) {
			run(t, "mkswap", dev)
			run(t, "swapon", dev)
			t.Cleanup(func() { run(t, "swapoff", dev) })
		}},
		{"held by a program", "in use by the kernel, which does not say", func(t *testing.T, dev string) {
			f, err := os.OpenFile(dev, os.O_RDONLY|unix.O_EXCL, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = f.Close() })
		}},
		{"read-only", "is read-only", func(t *testing.T, dev string) {
			run(t, "blockdev", "--setro", dev)
			t.Cleanup(func() { run(t, "blockdev", "--setrw", dev) })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dev, img := loop(t, t.TempDir(), 32*mib), image(t, 10*mib)
			c.use(t, dev)
			run(t, "sync")
			before := read(t, dev)
			err := Write(t.Context(), spec(t, img, dev))
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrIncomplete) {
				t.Errorf("Write() = %v, want %q", err, c.want)
			}
			if !bytes.Equal(read(t, dev), before) {
				t.Error("it was written to")
			}
		})
	}
}

func TestWhatIsStackedOnADeviceIsFollowedToItsMount(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		"sys/devices/sdx/dev": "8:16\n", "sys/devices/sdx/sdx1/dev": "8:17\n", "sys/devices/sdx/sdx1/partition": "1\n",
		"sys/devices/dm-7/dev": "254:7\n", "sys/devices/dm-7/dm/name": "vg-root\n",
		"mounts": "30 1 254:7 / /srv/a\\040b rw - ext4 /dev/mapper/vg-root rw\n31 1 8:99 / /other rw - ext4 /dev/sdz rw\n",
		"swaps":  "Filename Type Size Used Priority\n",
	} {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	holders := filepath.Join(root, "sys/devices/sdx/sdx1/holders")
	if err := errors.Join(os.Mkdir(holders, 0o755), os.Symlink("../../../dm-7", filepath.Join(holders, "dm-7"))); err != nil {
		t.Fatal(err)
	}
	s := system{filepath.Join(root, "sys"), filepath.Join(root, "mounts"), filepath.Join(root, "swaps")}
	got, err := s.uses(filepath.Join(root, "sys/devices/sdx"))
	if err != nil {
		t.Fatal(err)
	}
	const want = "sdx1 is part of dm-7 (vg-root); dm-7 is mounted on /srv/a b: umount /srv/a b"
	if strings.Join(got, "; ") != want {
		t.Errorf("uses() = %q, want %q", got, want)
	}
}

func TestWhatDoesNotFitIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	whole := append(append(make([]byte, 510), 0x55, 0xaa), "EFI PART"...)
	for name, c := range map[string]struct {
		head   []byte
		size   int64
		target Target
		want   string
	}{
		"a smaller device":           {whole, 2 * mib, Target{Path: "/dev/sdx", Size: mib, Sector: 512}, "take a larger one"},
		"a disk on a partition":      {whole, mib, Target{Path: "/dev/sdx1", Disk: "sdx", Size: mib, Sector: 512}, "write it to /dev/sdx"},
		"other sectors":              {whole, mib, Target{Path: "/dev/sdx", Size: mib, Sector: 4096}, "sectors of 4096"},
		"a file system on a disk":    {make([]byte, 512), mib, Target{Path: "/dev/sdx", Size: mib, Sector: 512}, "no boot sector"},
		"a partition without asking": {make([]byte, 512), mib, Target{Path: "/dev/sdx1", Disk: "sdx", Size: mib, Sector: 512}, "give --partition"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			err = Spec{Image: &plain{f, c.size, c.head}, Target: c.target}.Check()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Check() = %v, want %q", err, c.want)
			}
		})
	}
	if _, err := Look(t.TempDir()); err == nil || !strings.Contains(err.Error(), "--file") {
		t.Errorf("Look() of a directory = %v, want the remedy", err)
	}
}

func TestAnErrorOfTheDeviceTellsWhereAndThatItIsIncomplete(t *testing.T) {
	dir := t.TempDir()
	if os.Getuid() != 0 {
		t.Skip("loop devices take root: sudo go test")
	}
	run(t, "mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", dir)
	t.Cleanup(func() { run(t, "umount", dir) })
	t.Run("write", func(t *testing.T) {
		dev := loop(t, dir, 32*mib) // of which the tmpfs holds 6 MiB
		err := Write(t.Context(), spec(t, image(t, 10*mib), dev))
		if !errors.Is(err, ErrIncomplete) || !errors.Is(err, unix.EIO) && !errors.Is(err, unix.ENOSPC) {
			t.Errorf("Write() = %v, want an error of the device, and that it is incomplete", err)
		}
		if head := read(t, filepath.Join(dir, "device"))[:mib]; !bytes.Equal(head, make([]byte, mib)) {
			t.Error("something could be started from it")
		}
	})
}

// changed is an image that runs something before its last byte is read.
type changed struct {
	Image
	left int
	do   func()
}

func (c *changed) Read(b []byte) (int, error) {
	if c.left -= len(b); c.left <= 0 {
		c.do()
	}
	return c.Image.Read(b)
}

func TestAnInterruptedWriteLeavesNothingThatStarts(t *testing.T) {
	dev := loop(t, t.TempDir(), 32*mib)
	s := spec(t, image(t, 10*mib), dev)
	ctx, cancel := context.WithCancel(t.Context())
	s.Image = &changed{s.Image, 5 * mib, cancel}
	if err := Write(ctx, s); !errors.Is(err, ErrIncomplete) || !errors.Is(err, context.Canceled) {
		t.Errorf("Write() = %v, want that it is incomplete", err)
	}
	if head := read(t, dev)[:mib]; !bytes.Equal(head, make([]byte, mib)) {
		t.Error("something could be started from it")
	}
}

func TestWhatADeviceForgetsIsFoundWhenItIsReadBack(t *testing.T) {
	dev := loop(t, t.TempDir(), 32*mib)
	s := spec(t, image(t, 10*mib), dev)
	s.Progress = func(what string, done, total int64) {
		if what != "write" || done != total {
			return
		}
		f, err := os.OpenFile(dev, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte("lost"), 5*mib); err != nil {
			t.Fatal(err)
		}
	}
	if err := Write(t.Context(), s); err == nil || !strings.Contains(err.Error(), "from byte 4194304 to 8388608 is not what was written") {
		t.Errorf("Write() = %v, want where it differs", err)
	}
}

func TestAStateBehindTheImageIsKept(t *testing.T) {
	dev, small, large, huge := loop(t, t.TempDir(), 64*mib), image(t, 10*mib), image(t, 20*mib), image(t, 40*mib)
	if err := Write(t.Context(), spec(t, small, dev)); err != nil {
		t.Fatal(err)
	}
	s := spec(t, large, dev)
	s.KeepState = true
	if err := Write(t.Context(), s); err == nil || !strings.Contains(err.Error(), "leave --keep-state out") {
		t.Errorf("Write() = %v, want that there is nothing to keep", err)
	}
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table := func() *probe.GPT {
		t.Helper()
		g, err := probe.ReadGPT(f, 64*mib, 512)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	g := table()
	g.Spare(15 * mib)
	made, err := g.Add("state", disk.TypeLinux, [16]byte{1, 2, 3}, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range g.Writes() {
		if _, err := f.WriteAt(w.Data, w.Offset); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.WriteAt([]byte("kept"), made.Start); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	s = spec(t, huge, dev)
	s.KeepState = true
	if err := Write(t.Context(), s); !errors.Is(err, probe.ErrNoRoom) || errors.Is(err, ErrIncomplete) {
		t.Errorf("Write() of what reaches the state = %v, want ErrNoRoom", err)
	}
	s = spec(t, large, dev)
	s.KeepState = true
	if err := Write(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	got, _, found, err := table().Find("state")
	if err != nil || !found || got != made {
		t.Errorf("the state is %+v, %v, %v; want %+v", got, found, err, made)
	}
	b := make([]byte, 4)
	if _, err := f.ReadAt(b, made.Start); err != nil || string(b) != "kept" {
		t.Errorf("it holds %q, %v", b, err)
	}
	if want := read(t, large); !bytes.Equal(read(t, dev)[mib:len(want)-mib], want[mib:len(want)-mib]) {
		t.Error("the image is not there")
	}
	run(t, "sfdisk", "--verify", dev)
	// Written plainly, the same image takes the place of the table, and the state is gone.
	if err := Write(t.Context(), spec(t, large, dev)); err != nil {
		t.Fatal(err)
	}
	if _, _, found, err := table().Find("state"); found || err != nil {
		t.Errorf("the state is still in the table: %v", err)
	}
}
