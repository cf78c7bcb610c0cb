package qemu

// A real Debian kernel with a tiny initramfs, under the accelerator that this machine has.
//
//	initramfs   busybox, the modules of virtio-blk and virtio-scsi, and an init that lists disks and obeys the console
//	disks       none at the start; one is plugged in
//
// The kernel comes from Debian's archive.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/u-root/mkuimage/cpio"
)

const bootInit = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
for m in /modules/*; do $b insmod $m; done
$b echo "ready, $($b uname -r)"
while read -r word; do
	case $word in
	disks) for d in /sys/block/*; do $b echo "disk ${d##*/} of $($b cat $d/size) sectors;"; done
		$b echo "that is all;" ;;
	off) $b poweroff -f ;;
	reset) $b reboot -f ;;
	crash) $b echo c > /proc/sysrq-trigger ;;
	*) $b echo "heard $word;" ;;
	esac
done
`

func TestGuest(t *testing.T) {
	vm := bootVM(t)
	ctx := soonVM(t)
	t.Run("answers, sees a disk that is plugged in, and powers off", func(t *testing.T) {
		var log bytes.Buffer
		vm := vm
		vm.Slots = 2
		g := start(t, ctx, vm, &log)
		expect(t, g, `(?m)^ready, \S+$`)
		send(t, g, "hello\r")
		expect(t, g, `heard hello;`)
		image := filepath.Join(t.TempDir(), "a disk, with a comma")
		writeFile(t, image, "")
		if err := os.Truncate(image, 1<<20); err != nil {
			t.Fatal(err)
		}
		for _, bus := range []Bus{VirtioBlk, VirtioSCSI} {
			if err := g.Plug(ctx, Disk{Path: image, Bus: bus, ReadOnly: true}); err != nil {
				t.Fatal(err)
			}
		}
		expect(t, g, `\[vda\] 2048 512-byte`)
		expect(t, g, `\[sda\] Attached`)
		send(t, g, "disks\r")
		expect(t, g, `disk sda of 2048 sectors;`)
		if err := g.Plug(ctx, Disk{Path: image, Bus: NVMe, ReadOnly: true}); err == nil || !strings.Contains(err.Error(), "VM.Slots") {
			t.Errorf("Plug() into no free slot = %v, want an error that names VM.Slots", err)
		}
		send(t, g, "off\r")
		wait(t, g, PoweredOff)
		if !strings.Contains(log.String(), "heard hello;") {
			t.Errorf("the log does not hold the console:\n%s", log.String())
		}
	})
	t.Run("tells a reset from a power off", func(t *testing.T) {
		// Linux resets the machine after a panic where panic=-1 says so.
		for _, order := range []string{"reset\r", "crash\r"} {
			g := start(t, ctx, vm, nil)
			expect(t, g, `ready,`)
			send(t, g, order)
			wait(t, g, Reset)
		}
	})
	t.Run("is killed when its context ends", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		g := start(t, ctx, vm, nil)
		expect(t, g, `Linux version`)
		pid := g.engine.(*vmtestEngine).pid
		cancel()
		wait(t, g, Killed)
		if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid))); err == nil {
			t.Errorf("process %d still exists", pid)
		}
		if err := g.Play(ctx, []Step{{Expect: regexp.MustCompile(`never`)}}); !errors.Is(err, ErrEnded) {
			t.Errorf("Play() after the end = %v, want ErrEnded", err)
		}
	})
	t.Run("shows what QEMU complains about", func(t *testing.T) {
		vm := vm
		vm.Disks = []Disk{{Path: "/nonexistent/disk.img"}}
		_, err := Start(ctx, vm, nil)
		if err == nil || !strings.Contains(err.Error(), "/nonexistent/disk.img': No such file") {
			t.Errorf("Start() = %v, want what QEMU says about the missing disk", err)
		}
	})
}

func TestEveryBusBringsItsDisk(t *testing.T) {
	vm := kernelVM(t, "full", "virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "ahci", "nvme", "xhci_pci", "usb_storage", "uas",
		"sdhci_pci", "mmc_block", "sr_mod")
	vm.MemoryMiB = 512
	image := filepath.Join(t.TempDir(), "disk.img")
	writeFile(t, image, "")
	if err := os.Truncate(image, 64<<20); err != nil { // a power of two, for the SD card
		t.Fatal(err)
	}
	for _, bus := range Buses() {
		vm.Disks = append(vm.Disks, Disk{Path: image, Bus: bus, Snapshot: true})
	}
	g := start(t, soonVM(t), vm, nil)
	expect(t, g, `(?m)^ready,`)
	// virtio, NVMe, SD and CD-ROM have names of their own; SCSI, AHCI, USB and UAS are all SCSI disks to Linux. They appear
	// in any order, so the guest is asked until it has them all.
	want := []string{"vda", "nvme0n1", "mmcblk0", "sr0", "sda", "sdb", "sdc", "sdd"}
	var missing []string
	for range 100 {
		send(t, g, "disks\r")
		list := expect(t, g, `(?s)disk .*that is all;`)[0]
		missing = slices.DeleteFunc(slices.Clone(want), func(disk string) bool { return strings.Contains(list, "disk "+disk+" ") })
		if len(missing) == 0 {
			return
		}
	}
	t.Errorf("disks %q did not appear; the console shows:\n%s", missing, g.Tail(60))
}

func TestArm64Boots(t *testing.T) {
	tree, release := kernelTree(t, "arm64", "cloud")
	vm := VM{Arch: "arm64", Kernel: filepath.Join(tree, "boot/vmlinuz-"+release), MemoryMiB: 256, Append: []string{"console=ttyAMA0", "panic=-1"}}
	g := start(t, soonVM(t), vm, nil)
	expect(t, g, `Machine model: linux,dummy-virt`)
	expect(t, g, `VFS: Unable to mount root fs`)
	wait(t, g, Reset)
}

func start(t *testing.T, ctx context.Context, vm VM, log *bytes.Buffer) *Guest {
	t.Helper()
	var g *Guest
	var err error
	if log == nil {
		g, err = Start(ctx, vm, nil)
	} else {
		g, err = Start(ctx, vm, log)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Kill)
	return g
}

func expect(t *testing.T, g *Guest, pattern string) []string {
	t.Helper()
	match, err := g.Expect(context.Background(), 60*time.Second, regexp.MustCompile(pattern))
	if err != nil {
		t.Fatal(err)
	}
	return match
}

func send(t *testing.T, g *Guest, text string) {
	t.Helper()
	if err := g.Send(text); err != nil {
		t.Fatal(err)
	}
}

func wait(t *testing.T, g *Guest, want End) {
	t.Helper()
	got, err := g.Wait(context.Background(), 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("Wait() = %q, want %q", got, want)
	}
}

// bootVM returns a VM with Debian's cloud kernel and the initramfs of these tests.
func bootVM(t *testing.T) VM {
	t.Helper()
	return kernelVM(t, "cloud", "virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod")
}

// kernelVM returns a VM with one of Debian's kernels, and an initramfs that loads these modules.
func kernelVM(t *testing.T, kind string, modules ...string) VM {
	t.Helper()
	tree, release := kernelTree(t, "amd64", kind)
	run(t, tree, "depmod", "-b", tree, release)
	return VM{Arch: "amd64", Kernel: filepath.Join(tree, "boot/vmlinuz-"+release), Initrd: initramfs(t, tree, release, modules),
		MemoryMiB: 256, Append: []string{"console=ttyS0", "panic=-1"}}
}

// kernelTree unpacks one of Debian's kernels: cloud, or full.
func kernelTree(t *testing.T, arch, kind string) (tree, release string) {
	t.Helper()
	deb := lastLine(run(t, ".", "../../.ci/fetch-kernel", arch, kind))
	tree = t.TempDir()
	run(t, tree, "dpkg-deb", "-x", deb, tree)
	kernels, err := filepath.Glob(filepath.Join(tree, "boot/vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		t.Fatalf("want one kernel in %s, got %q", deb, kernels)
	}
	return tree, strings.TrimPrefix(filepath.Base(kernels[0]), "vmlinuz-")
}

// lastLine is what a program prints at last, after its progress.
func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

func initramfs(t *testing.T, tree, release string, modules []string) string {
	t.Helper()
	records := []cpio.Record{
		cpio.Directory("bin", 0o755), cpio.Directory("dev", 0o755), cpio.Directory("proc", 0o755),
		cpio.Directory("sys", 0o755), cpio.Directory("modules", 0o755), cpio.CharDev("dev/console", 0o600, 5, 1),
		cpio.StaticFile("init", bootInit, 0o755), cpio.StaticFile("bin/busybox", readFile(t, "/bin/busybox"), 0o755),
	}
	seen := map[string]bool{}
	for _, module := range modules {
		for _, line := range strings.Split(run(t, tree, "modprobe", "-d", tree, "-S", release, "--show-depends", module), "\n") {
			verb, path, _ := strings.Cut(strings.TrimSpace(line), " ")
			if verb != "insmod" || seen[path] {
				continue
			}
			seen[path] = true
			name := fmt.Sprintf("modules/%03d-%s", len(seen), filepath.Base(path))
			records = append(records, cpio.StaticFile(name, readFile(t, path), 0o644))
		}
	}
	var archive bytes.Buffer
	w := cpio.Newc.Writer(&archive)
	if err := errors.Join(cpio.WriteRecords(w, records), cpio.WriteTrailer(w)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "initramfs.cpio")
	writeFile(t, path, archive.String())
	return path
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; apt-get install busybox-static kmod", err)
	}
	return string(content)
}

func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(soonVM(t), name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return string(out)
}

// soonVM bounds what boots a VM or downloads a package.
func soonVM(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	return ctx
}
