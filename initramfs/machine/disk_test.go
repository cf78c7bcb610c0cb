package machine

// Real loop devices and the tools of this machine, whose root stands for the base.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/images"
	"veneer/initramfs/machine/disktest"
	"veneer/initramfs/machine/probe"
	"veneer/stage"
	keep "veneer/stage/keeper"
)

const mib = 1 << 20

// TestMain lets the test be the keeper, too.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "keep" {
		ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
		defer stop()
		if err := keep.Serve(ctx, os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func testMachine(t *testing.T) *Machine {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{Detail: t.Logf, devices: map[string]*blockDevice{}, program: program}
	t.Cleanup(func() {
		if err := m.stopKeeper(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// mounted mounts a device for the rest of the test.
func mounted(t *testing.T, device, fsType string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(device, dir, fsType, 0, ""); err != nil {
		t.Fatalf("mount %s: %v", device, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	return dir
}

// growsExt4 reports whether this process may make an ext4 larger; PID 1 may.
func growsExt4(t *testing.T) bool {
	t.Helper()
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		t.Fatal(err)
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

var stateSystems = map[string]int64{"ext4": 64 * mib, "btrfs": 256 * mib, "xfs": 320 * mib}

func TestFormatMakesWhatGrowsToTheWholeDevice(t *testing.T) {
	if !disktest.InNamespace(t) {
		return
	}
	for fsType, size := range stateSystems {
		t.Run(fsType, func(t *testing.T) {
			m, dev := testMachine(t), disktest.Loop(t, size)
			if d, err := m.LookAt(dev); err != nil || !d.Empty || d.FileSystem != "" || d.Size != size {
				t.Errorf("LookAt() at nothing = %+v, %v", d, err)
			}
			if err := m.Format(t.Context(), "/", dev, fsType, "VENEER-STATE"); err != nil {
				t.Fatal(err)
			}
			d, err := m.LookAt(dev)
			if err != nil || d.Empty || d.FileSystem != fsType || d.Label != "VENEER-STATE" || d.UUID == "" {
				t.Errorf("LookAt() = %+v, %v; want a %s", d, err, fsType)
			}
			if err := m.Format(t.Context(), "/", dev, fsType, "again"); !errors.Is(err, stage.ErrForeign) || !strings.Contains(err.Error(), "it holds "+fsType) {
				t.Errorf("Format() of what was made = %v, want ErrForeign", err)
			}
			dir := mounted(t, dev, fsType)
			if err := m.ProbeUpper(t.Context(), dir); err != nil {
				t.Error(err)
			}
			if err := m.Format(t.Context(), "/", dev, fsType, "again"); !errors.Is(err, unix.EBUSY) {
				t.Errorf("Format() of a mounted device = %v, want EBUSY", err)
			}
			if fsType == "ext4" && !growsExt4(t) {
				t.Skip("growing an ext4 takes CAP_SYS_RESOURCE; a case in vmtests does it")
			}
			if grew, err := m.GrowFileSystem(dir); err != nil || fsType != "ext4" && !grew { // ext4 has no use for a MiB here
				t.Errorf("GrowFileSystem() = %v, %v; want the last MiB", grew, err)
			}
			if grew, err := m.GrowFileSystem(dir); err != nil || grew {
				t.Errorf("GrowFileSystem() again = %v, %v; want nothing to do", grew, err)
			}
		})
	}
}

func TestAFileSystemGrowsByALot(t *testing.T) {
	if !disktest.InNamespace(t) {
		return
	}
	for fsType, size := range stateSystems {
		t.Run(fsType, func(t *testing.T) {
			if fsType == "ext4" && !growsExt4(t) {
				t.Skip("growing an ext4 takes CAP_SYS_RESOURCE; a case in vmtests does it")
			}
			m := testMachine(t)
			file := filepath.Join(t.TempDir(), "disk")
			f, err := os.Create(file)
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
			defer d.Close()
			if err := m.Format(t.Context(), "/", d.Path, fsType, "grows"); err != nil {
				t.Fatal(err)
			}
			dir := mounted(t, d.Path, fsType)
			if err := os.WriteFile(dir+"/kept", []byte("kept"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := f.Truncate(4 * size); err != nil {
				t.Fatal(err)
			}
			disktest.Run(t, "losetup", "-c", d.Path)
			if grew, err := m.GrowFileSystem(dir); !grew || err != nil {
				t.Errorf("GrowFileSystem() = %v, %v; want it to grow", grew, err)
			}
			var st unix.Statfs_t
			if err := unix.Statfs(dir, &st); err != nil || int64(st.Blocks)*st.Bsize < 3*size {
				t.Errorf("it has %d MiB, %v; want about %d", int64(st.Blocks)*st.Bsize>>20, err, 4*size>>20)
			}
			if b, err := os.ReadFile(dir + "/kept"); err != nil || string(b) != "kept" {
				t.Errorf("what was in it: %q, %v", b, err)
			}
		})
	}
}

func TestFormatLeavesAloneWhatHoldsAnything(t *testing.T) {
	if !disktest.InNamespace(t) {
		return
	}
	m := testMachine(t)
	for _, tt := range []struct {
		name string
		fill func(t *testing.T, dev string)
		says string
	}{
		{"vfat", func(t *testing.T, dev string) { disktest.Run(t, "mkfs.vfat", dev) }, "it holds vfat"},
		{"swap", func(t *testing.T, dev string) { disktest.Run(t, "mkswap", dev) }, "it holds swap"},
		{"a partition table", func(t *testing.T, dev string) { disktest.Run(t, "sh", "-c", "echo 'label: gpt' | sfdisk -q "+dev) }, "it holds gpt"},
		{"the end of a partition table", func(t *testing.T, dev string) {
			disktest.Run(t, "sh", "-c", "echo 'label: gpt' | sfdisk -q "+dev)
			disktest.Poke(t, dev, 0, make([]byte, mib))
		}, "a partition table lies at its end"},
		{"LUKS", func(t *testing.T, dev string) {
			disktest.Run(t, "sh", "-c", "echo key | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 "+dev+" -")
		}, "it holds crypto_LUKS"},
		{"a RAID of the old kind", func(t *testing.T, dev string) { disktest.Poke(t, dev, -64<<10, []byte("\xfc\x4e\x2b\xa9")) }, "RAID"},
		{"something unknown", func(t *testing.T, dev string) { disktest.Poke(t, dev, 300<<10, []byte("x")) }, "neither empty nor anything known"},
		{"two things", func(t *testing.T, dev string) {
			disktest.Run(t, "mkfs.btrfs", "-q", dev)
			disktest.Poke(t, dev, 1024+0x38, []byte("\x53\xef"))
			disktest.Poke(t, dev, 1024+0x28, []byte("\x01"))
		}, "ext4 and btrfs"},
		{"a file system that covers the place of a mark, with a mark", func(t *testing.T, dev string) {
			disktest.Run(t, "mkfs.ext4", "-q", dev)
			disktest.Poke(t, dev, -probe.MarkSize, probe.Mark(128*mib))
		}, "it holds ext4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dev := disktest.Loop(t, 128*mib)
			tt.fill(t, dev)
			before := disktest.Run(t, "sha256sum", dev)
			err := m.Format(t.Context(), "/", dev, "ext4", "x")
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Format() = %v, want a refusal that says %q", err, tt.says)
			}
			if tt.name != "two things" && !errors.Is(err, stage.ErrForeign) {
				t.Errorf("Format() = %v, want ErrForeign", err)
			}
			if after := disktest.Run(t, "sha256sum", dev); after != before {
				t.Error("the device was changed")
			}
		})
	}
	if err := m.Format(t.Context(), "/", "/dev/null", "vfat", "x"); err == nil || !strings.Contains(err.Error(), "use ext4") {
		t.Errorf("Format(vfat) = %v, want the remedy", err)
	}
	for fsType, label := range map[string]string{"ext4": "seventeen letters", "xfs": "thirteen lett", "btrfs": ""} {
		if err := m.Format(t.Context(), "/", "/dev/null", fsType, label); err == nil || !strings.Contains(err.Error(), "want 1 to") {
			t.Errorf("Format(%s, %q) = %v, want a refusal of the label", fsType, label, err)
		}
	}
}

// TestFormatThatWasCutOffIsMadeAnew takes away the power between any two steps, and in mkfs, after which anything may be on the
// device but the mark is.
func TestFormatThatWasCutOffIsMadeAnew(t *testing.T) {
	if !disktest.InNamespace(t) {
		return
	}
	const size = 320 * mib
	m := testMachine(t)
	for fsType := range stateSystems {
		for name, cut := range map[string]func(dev string){
			"before mkfs": func(string) {},
			"in mkfs":     func(dev string) { disktest.Poke(t, dev, 40<<10, bytes.Repeat([]byte("half"), 100<<10)) },
			"in mkfs, behind the superblock of another": func(dev string) {
				disktest.Run(t, "mkfs.btrfs", "-q", "-f", "-b", fmt.Sprint(size-2*mib), dev)
				disktest.Poke(t, dev, -probe.MarkSize, probe.Mark(size))
			},
			"behind mkfs": func(dev string) {
				if err := m.Format(t.Context(), "/", dev, fsType, "made"); err != nil {
					t.Fatal(err)
				}
				disktest.Poke(t, dev, -probe.MarkSize, probe.Mark(size))
			},
		} {
			t.Run(fsType+" "+name, func(t *testing.T) {
				dev := disktest.Loop(t, size)
				disktest.Poke(t, dev, -probe.MarkSize, probe.Mark(size))
				cut(dev)
				if d, err := m.LookAt(dev); err != nil || !d.Empty || d.FileSystem != "" {
					t.Errorf("LookAt() = %+v, %v; want it empty", d, err)
				}
				if err := m.Format(t.Context(), "/", dev, fsType, "made anew"); err != nil {
					t.Fatal(err)
				}
				if d, err := m.LookAt(dev); err != nil || d.FileSystem != fsType || d.Label != "made anew" {
					t.Errorf("LookAt() = %+v, %v; want it made", d, err)
				}
				mounted(t, dev, fsType)
			})
		}
	}
}

func TestAMissingProgramIsNamedWithItsPackage(t *testing.T) {
	if !disktest.InNamespace(t) {
		return
	}
	root := t.TempDir()
	for _, dir := range []string{"dev", "proc", "sys", "run"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	err := testMachine(t).Format(t.Context(), root, disktest.Loop(t, 64*mib), "xfs", "x")
	if !errors.Is(err, stage.ErrNoTool) || !strings.Contains(err.Error(), "mkfs.xfs: put the Debian package xfsprogs") {
		t.Errorf("Format() = %v, want ErrNoTool that names the package", err)
	}
}

func TestCheckRunsNothingOnACleanFileSystem(t *testing.T) {
	if !disktest.InNamespace(t) {
		return
	}
	m := testMachine(t)
	for fsType, size := range stateSystems {
		dev := disktest.Loop(t, size)
		if err := m.Format(t.Context(), "/", dev, fsType, "clean"); err != nil {
			t.Fatal(err)
		}
		for _, how := range []stage.CheckSpec{{}, {Mode: boot.FsckAuto, Repair: boot.FsckYes}, {Mode: boot.FsckSkip, Failed: true}} {
			if c, err := m.Check(t.Context(), "/", dev, fsType, how); err != nil || c != (stage.Checked{}) {
				t.Errorf("%s: Check(%+v) = %+v, %v; want nothing run", fsType, how, c, err)
			}
		}
		for _, repair := range []boot.FsckRepair{"", boot.FsckYes, boot.FsckNo} {
			c, err := m.Check(t.Context(), "/", dev, fsType, stage.CheckSpec{Mode: boot.FsckForce, Repair: repair})
			if err != nil || c.Why != "fsck.mode=force" || c.Repaired {
				t.Errorf("%s: Check(force, %q) = %+v, %v; want it run and clean", fsType, repair, c, err)
			}
		}
	}
}

func TestCheckRepairsAsFarAsItMay(t *testing.T) {
	if !disktest.InNamespace(t) {
		return
	}
	m := testMachine(t)
	broken := func(t *testing.T, commands ...string) string {
		t.Helper()
		dev := disktest.Loop(t, 64*mib)
		disktest.Run(t, "mkfs.ext4", "-q", dev)
		for _, c := range append([]string{"mkdir a", "mkdir b"}, commands...) {
			disktest.Run(t, "debugfs", "-w", "-R", c, dev)
		}
		return dev
	}
	t.Run("an error that the kernel noted is preened away", func(t *testing.T) {
		dev := broken(t, "set_super_value state 2")
		c, err := m.Check(t.Context(), "/", dev, "ext4", stage.CheckSpec{})
		if err != nil || c.Program != "e2fsck" || !strings.Contains(c.Why, "found errors") {
			t.Errorf("Check() = %+v, %v", c, err)
		}
		if c, err := m.Check(t.Context(), "/", dev, "ext4", stage.CheckSpec{}); err != nil || c.Why != "" {
			t.Errorf("Check() again = %+v, %v; want it clean", c, err)
		}
	})
	t.Run("what takes a decision is refused, named, and repaired with yes", func(t *testing.T) {
		dev := broken(t, "set_super_value state 2", "clri <2>")
		_, err := m.Check(t.Context(), "/", dev, "ext4", stage.CheckSpec{})
		if err == nil || !strings.Contains(err.Error(), "fsck.repair=yes") {
			t.Errorf("Check(preen) = %v, want the remedy", err)
		}
		if _, err := m.Check(t.Context(), "/", dev, "ext4", stage.CheckSpec{Repair: boot.FsckNo}); err == nil {
			t.Error("Check(no) succeeded on a broken file system")
		}
		c, err := m.Check(t.Context(), "/", dev, "ext4", stage.CheckSpec{Repair: boot.FsckYes})
		if err != nil || !c.Repaired {
			t.Errorf("Check(yes) = %+v, %v; want it repaired", c, err)
		}
	})
	t.Run("a torn superblock", func(t *testing.T) {
		dev := broken(t)
		disktest.Poke(t, dev, 1024+0x78, []byte("torn"))
		c, err := m.Check(t.Context(), "/", dev, "ext4", stage.CheckSpec{Repair: boot.FsckYes})
		if err != nil || !strings.Contains(c.Why, "checksum of its superblock") || !c.Repaired {
			t.Errorf("Check() = %+v, %v; want it repaired", c, err)
		}
	})
	t.Run("a vfat that was pulled out", func(t *testing.T) {
		dev := disktest.Loop(t, 64*mib)
		disktest.Run(t, "mkfs.vfat", "-F32", dev)
		disktest.Poke(t, dev, 0x41, []byte{1})
		c, err := m.Check(t.Context(), "/", dev, "vfat", stage.CheckSpec{})
		if err != nil || !c.Repaired {
			t.Errorf("Check() = %+v, %v; want the dirty bit gone", c, err)
		}
		if c, err := m.Check(t.Context(), "/", dev, "vfat", stage.CheckSpec{}); err != nil || c.Why != "" {
			t.Errorf("Check() again = %+v, %v; want it clean", c, err)
		}
	})
}

func TestAStateFileIsMadeOnceAndGrows(t *testing.T) {
	if !disktest.InNamespace(t) {
		return
	}
	m, dir := testMachine(t), t.TempDir()
	spec := stage.FileSpec{Name: "state.img", Label: "VENEER-STATE", Size: 64 * mib, Max: 200 * mib}
	open := func() (string, func()) {
		t.Helper()
		dev, mounted, undo, err := m.StateFile(t.Context(), "/", dir, spec)
		if err != nil {
			t.Fatal(err)
		}
		if !growsExt4(t) { // what the caller would do once it is mounted
			disktest.Run(t, "resize2fs", "-f", dev)
		}
		at := t.TempDir()
		if err := unix.Mount(dev, at, "ext4", 0, ""); err != nil {
			t.Fatal(err)
		}
		if err := mounted(); err != nil {
			t.Fatal(err)
		}
		return at, func() {
			t.Helper()
			if err := errors.Join(unix.Unmount(at, 0), undo()); err != nil {
				t.Fatal(err)
			}
		}
	}
	size := func() int64 {
		t.Helper()
		info, err := os.Stat(filepath.Join(dir, spec.Name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	// What a power cut left of an earlier try.
	if err := os.WriteFile(filepath.Join(dir, "state.img.new"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	at, closed := open()
	if size() != 64*mib {
		t.Errorf("a new file has %d bytes", size())
	}
	if err := os.WriteFile(at+"/kept", bytes.Repeat([]byte("kept"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	closed()
	for _, want := range []int64{64 * mib, 128 * mib, 192 * mib, 200 * mib, 200 * mib} {
		at, closed := open()
		if size() != want {
			t.Errorf("the file has %d MiB, want %d", size()>>20, want>>20)
		}
		if growsExt4(t) {
			if _, err := m.GrowFileSystem(at); err != nil {
				t.Error(err)
			}
		}
		if b, err := os.ReadFile(at + "/kept"); err != nil || len(b) != 4000 {
			t.Errorf("what was in it: %d bytes, %v", len(b), err)
		}
		var st unix.Statfs_t
		if err := unix.Statfs(at, &st); err != nil {
			t.Fatal(err)
		}
		fill := int64(st.Blocks)*st.Bsize*85/100 - int64(st.Blocks-st.Bfree)*st.Bsize
		if err := os.WriteFile(fmt.Sprintf("%s/filler-%d", at, want+fill), make([]byte, max(fill, 0)), 0o600); err != nil {
			t.Fatal(err)
		}
		closed()
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v, %v; want the file alone", entries, err)
	}
	t.Run("refusals", func(t *testing.T) {
		if err := os.Symlink("/dev/null", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"", "a/b", "x.new", "link"} {
			if _, _, _, err := m.StateFile(t.Context(), "/", dir, stage.FileSpec{Name: name, Label: "x"}); err == nil {
				t.Errorf("StateFile(%q) succeeded", name)
			}
		}
		huge := stage.FileSpec{Name: "huge", Label: "x", Size: 1 << 50}
		if _, _, _, err := m.StateFile(t.Context(), "/", dir, huge); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("StateFile(1 PiB) = %v, want ENOSPC", err)
		}
	})
}

func TestAKeeperThatIsToldToLeaveOffLeavesNothing(t *testing.T) {
	if !disktest.InNamespace(t) {
		return
	}
	m, root := testMachine(t), t.TempDir()
	for _, dir := range []string{"dev", "proc", "sys", "run", "bin", "sbin"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	disktest.Run(t, "sh", "-c", "cp -L /bin/sh /bin/sleep "+root+"/bin && cp -L --parents $(ldd /bin/sh /bin/sleep | grep -o '/lib[^ :]*' | sort -u) "+root)
	slow := "#!/bin/sh\nsleep 987654\n"
	if err := os.WriteFile(filepath.Join(root, "sbin/mkfs.ext4"), []byte(slow), 0o755); err != nil {
		t.Fatal(err)
	}
	dev := disktest.Loop(t, 64*mib)
	before := disktest.Run(t, "cat", "/proc/self/mountinfo")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := m.Format(ctx, root, dev, "ext4", "x")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Format() = %v, want the deadline", err)
	}
	if after := disktest.Run(t, "cat", "/proc/self/mountinfo"); after != before {
		t.Errorf("mounts were left:\n%s\nbefore:\n%s", after, before)
	}
	if out, err := exec.Command("pgrep", "-f", "sleep 987654").Output(); err == nil {
		t.Errorf("the program runs on: %s", out)
	}
	if d, err := m.LookAt(dev); err != nil || !d.Empty {
		t.Errorf("LookAt() = %+v, %v; want it empty", d, err)
	}
	if err := m.Format(t.Context(), "/", dev, "ext4", "x"); err != nil {
		t.Errorf("Format() afterwards = %v", err)
	}
}
