package vmtests

// Every file system and every bus that a store can come on.
//
//	machine   q35, 512 MiB; with Debian's full kernel for the buses, since the cloud kernel lacks half of the drivers
//	disks     one, on the bus and with the file system that the case names
//	console   the shell of the base; status names device and file system

import (
	"fmt"
	"os"
	"testing"

	"veneer/vmtests/qemu"
)

func TestAStoreBootsFromEveryFileSystem(t *testing.T) {
	t.Parallel()
	out := small(t)
	s := out.store(t, "veneer")
	for _, f := range fileSystems {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			var words []string
			if f.name == "squashfs" {
				words = []string{"veneer.store=/dev/vda"}
			}
			g := start(t, out.vm(t, f.disk(t, s.dir, label), words...))
			g.shell()
			if text := g.run("veneer status"); !contains(text, `Store +.* is /dev/vda \(`+f.name+`\)`) || !contains(text, `Degraded +no`) {
				t.Errorf("veneer status does not tell of %s on /dev/vda, not degraded:\n%s", f.name, text)
			}
			g.leave("poweroff", "poweroff", qemu.PoweredOff)
		})
	}
}

func TestAStoreBootsFromEveryBus(t *testing.T) {
	t.Parallel()
	r := smallRecipe(t, "small-full-kernel", "")
	r.files["kernel.deb"] = kernelDeb(t, "amd64", "full")
	out := outputOf(t, r)
	devices := map[qemu.Bus]string{qemu.VirtioBlk: "vda", qemu.VirtioSCSI: "sda", qemu.AHCI: "sda", qemu.NVMe: "nvme0n1", qemu.USB: "sda",
		qemu.UAS: "sda", qemu.SD: "mmcblk0", qemu.CDROM: "sr0"}
	for _, bus := range qemu.Buses() {
		t.Run(string(bus), func(t *testing.T) {
			t.Parallel()
			disk := out.disk()
			switch bus {
			case qemu.SD:
				disk = powerOfTwo(t, disk)
			case qemu.CDROM:
				disk = iso9660(t, out.store(t, "veneer").dir, label)
			}
			vm := out.vm(t, "")
			vm.Disks = []qemu.Disk{{Path: disk, Bus: bus, Snapshot: bus != qemu.CDROM}}
			g := start(t, vm)
			g.shell()
			if text := g.run("veneer status"); !contains(text, `Store +.* is /dev/`+devices[bus]+` \(`) || !contains(text, `Degraded +no`) {
				t.Errorf("veneer status does not tell of a store on /dev/%s, not degraded:\n%s", devices[bus], text)
			}
			g.leave("poweroff", "poweroff", qemu.PoweredOff)
		})
	}
}

// powerOfTwo returns a copy whose size an SD card can have.
func powerOfTwo(t *testing.T, disk string) string {
	t.Helper()
	content := read(t, disk)
	mib := 1
	for mib<<20 < len(content) {
		mib *= 2
	}
	card := blank(t, "card.img", mib)
	f, err := os.OpenFile(card, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(content, 0); err != nil {
		t.Fatal(err)
	}
	return card
}

func TestABaseOnEROFSBoots(t *testing.T) {
	t.Parallel()
	out := outputOf(t, smallRecipe(t, "small-erofs", "filesystem = { type = \"erofs\" }"))
	g := start(t, out.vm(t, out.disk()))
	g.shell()
	if got, want := g.run("cat /proc/mounts"), `(?m)^/dev/dm-\d+ /run/initramfs/veneer/base erofs ro,`; !contains(got, want) {
		t.Errorf("no mount matches %q:\n%s", want, got)
	}
	g.leave("poweroff", "poweroff", qemu.PoweredOff)
}

func TestTheInitramfsOfAnotherKernelIsRefused(t *testing.T) {
	t.Parallel()
	out := small(t)
	full := smallRecipe(t, "small-full-kernel", "")
	full.files["kernel.deb"] = kernelDeb(t, "amd64", "full")
	vm := out.vm(t, out.disk())
	vm.Kernel = outputOf(t, full).file("vmlinuz")
	g := start(t, vm)
	g.failed("load drivers", fmt.Sprintf(`the initramfs was built for another kernel: %s, but \S+ runs\n.*try: boot the kernel and the initramfs of the same build`, out.manifest(t).Kernel.Release))
	g.ends(qemu.Reset)
}
