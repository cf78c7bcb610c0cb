package vmtests

// The root partition of an installed system, booted as it is under a volatile overlay.
//
//	machine   q35, 512 MiB, one CPU; the kernel of the output, and an initramfs of variant live that allows what nobody signed
//	disks     vda: the small base unpacked onto a file system of its own, with an /etc/fstab and the veneer command; writable
//	console   what the init says of the root, then the shell of the base

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"veneer/vmtests/qemu"
)

// unsigned is the small base with an initramfs that boots the roots of installed systems.
func unsigned(t *testing.T) output {
	t.Helper()
	return outputOf(t, smallRecipe(t, "unsigned", "variant = \"live\"\nallow-unsigned = true"))
}

// installedTree unpacks the small base as an installation leaves it: with an /etc/fstab, and with the veneer command.
func installedTree(t *testing.T, fstab string) string {
	t.Helper()
	command(t) // brings the on-board one
	dir := t.TempDir()
	must(t, dir, "tar", "-xf", smallTree(t, "amd64"))
	if err := os.MkdirAll(filepath.Join(dir, "usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, dir, "zstd", "-q", "-d", "-f", filepath.Join(shared.root, "initramfs/prebuilt/amd64/veneer.zst"), "-o", filepath.Join(dir, "usr/bin/veneer"))
	if err := os.Chmod(filepath.Join(dir, "usr/bin/veneer"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/fstab"), []byte(fstab), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// rootDisk makes a file system of a tree, on a btrfs in the subvolume @rootfs, as Debian's installer has it.
func rootDisk(t *testing.T, kind, tree string) string {
	t.Helper()
	img := blank(t, kind+".img", 320)
	if kind == "ext4" {
		must(t, "", "mke2fs", "-q", "-t", "ext4", "-L", "ROOT", "-d", tree, img)
		return img
	}
	if os.Getuid() != 0 {
		t.Skipf("a %s with subvolumes, links and owners is made by mounting it: run the tests as root", kind)
	}
	must(t, "", "mkfs."+kind, "-q", "-L", "ROOT", img)
	at := t.TempDir()
	must(t, "", "mount", "-o", "loop", img, at)
	defer must(t, "", "umount", at)
	to := at
	if kind == "btrfs" {
		to = filepath.Join(at, "@rootfs")
		must(t, "", "btrfs", "-q", "subvolume", "create", to)
	}
	must(t, "", "cp", "-a", tree+"/.", to)
	return img
}

// writable is a machine whose first disk can be written.
func writable(t *testing.T, out output, disk string, words ...string) qemu.VM {
	t.Helper()
	vm := out.vm(t, disk, words...)
	vm.Disks[0].ReadOnly = false
	return vm
}

func TestAnInstalledRootIsBootedUnderAVolatileOverlay(t *testing.T) {
	t.Parallel()
	out := unsigned(t)
	tree := installedTree(t, "LABEL=ROOT / ext4 errors=remount-ro 0 1\nUUID=1234 none swap sw 0 0\nLABEL=DATA /srv ext4 defaults 0 2\n")
	for _, kind := range []string{"ext4", "btrfs", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			img := rootDisk(t, kind, tree)
			before, err := fileDigest(img)
			if err != nil {
				t.Fatal(err)
			}
			// As a boot entry of Debian has it, with what overlayroot reads.
			words := []string{"root=LABEL=ROOT", "ro", "overlayroot=tmpfs"}
			if kind == "btrfs" {
				words = []string{"veneer.root=LABEL=ROOT", "rootflags=subvol=@rootfs", "ro"}
			}
			vm := writable(t, out, img, words...)
			g := start(t, vm)
			g.expect(`degraded: not verified: the root is that of an installed system, on /dev/vda: nobody signed it`)
			g.shell()
			g.run("echo x > /etc/kept")
			status := g.run("veneer status")
			for _, want := range []string{`Verified +NO: .*an installed system, which nobody signed`, `only / is under the overlay: .*/srv`, `Upper +tmpfs, volatile`} {
				if !contains(strings.Join(strings.Fields(status), " "), strings.ReplaceAll(want, " +", " ")) {
					t.Errorf("veneer status does not tell %q:\n%s", want, status)
				}
			}
			if got := g.run("cat /etc/fstab"); !contains(got, `(?m)^#veneer: LABEL=ROOT / `) || !contains(got, `(?m)^#veneer: .* swap `) || !contains(got, `(?m)^LABEL=DATA /srv`) {
				t.Errorf("/etc/fstab of the merged root is\n%s", got)
			}
			if got := g.run("veneer diff"); !contains(got, `A /etc/kept`) || !contains(got, `M /etc/fstab`) {
				t.Errorf("veneer diff says\n%s", got)
			}
			if got := g.run("veneer why /etc/kept"); !contains(got, `Reboot +no: the upper is volatile`) {
				t.Errorf("veneer why says\n%s", got)
			}
			g.leave("poweroff", "poweroff", qemu.PoweredOff)
			after, err := fileDigest(img)
			if err != nil {
				t.Fatal(err)
			}
			// A mount of xfs wipes blocks of its log ahead, read-only or not (xlog_clear_stale_blocks).
			if before != after && kind != "xfs" {
				t.Errorf("the root's file system was written to")
			}
		})
	}
}

func TestAnUpperOfAnInstalledRootCanLieOnADevice(t *testing.T) {
	t.Parallel()
	out := unsigned(t)
	tree := installedTree(t, "LABEL=ROOT / ext4 errors=remount-ro 0 1\n")
	root := unclean(t, rootDisk(t, "ext4", tree))
	vm := writable(t, out, root, "root=LABEL=ROOT", "ro", "overlayroot=device:dev=/dev/vdb,recurse=0")
	vm.Disks = append(vm.Disks, qemu.Disk{Path: ext4(t, t.TempDir(), "UPPER"), Bus: qemu.VirtioBlk})
	g := start(t, vm)
	g.expect(`/dev/vda was not unmounted; the kernel finishes its journal`)
	g.shell()
	g.run("cat /etc/last-words") // that were only in the journal
	g.run("echo x > /etc/kept")
	g.leave("reboot", "reboot", qemu.Reset)

	again := start(t, vm)
	again.shell()
	again.never(`was not unmounted`)
	again.run("cat /etc/kept")
	if got := again.run("veneer status"); !contains(got, `Upper +persistent`) || !contains(got, `State +persistent; /dev/vdb is /dev/vdb \(ext4\), directory /veneer`) {
		t.Errorf("veneer status says\n%s", got)
	}
	again.leave("poweroff", "poweroff", qemu.PoweredOff)

	vm.Append = append(vm.Append, "veneer.root=LABEL=ROOT:/none")
	lost := start(t, vm)
	lost.failed("mount images", `root LABEL=ROOT on /dev/vda \(ext4\): .*no such directory or subvolume`)
	lost.ends(qemu.Reset)
	lost.never(`switch root`)
}

// unclean returns a copy of an ext4 as a power cut leaves it, with a file that only its journal knows.
func unclean(t *testing.T, img string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a journal is left unfinished by mounting: run the tests as root")
	}
	at, cut := t.TempDir(), filepath.Join(t.TempDir(), "cut.img")
	must(t, "", "mount", "-o", "loop,commit=300", img, at)
	defer must(t, "", "umount", at)
	if err := os.WriteFile(filepath.Join(at, "etc/last-words"), []byte("x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, "", "sync", "-f", at)
	must(t, "", "cp", "--sparse=always", img, cut)
	return cut
}
