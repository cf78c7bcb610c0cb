package vmtests

// The output "iso" of the small base: one file, as a CD and as a stick, from UEFI and from a BIOS.
//
//	machine   q35, 512 MiB; OVMF or SeaBIOS, no kernel from outside
//	disks     the ISO as a CD on AHCI, or written by `veneer write` to a stick that is larger, on USB
//	kernel    Debian's full one: the cloud kernel knows neither AHCI nor USB storage
//	console   the firmware, then the steps of a boot and the shell of the base

import (
	"os"
	"path/filepath"
	"testing"

	"veneer/vmtests/qemu"
)

// liveISO is the small base as an ISO.
func liveISO(t *testing.T) output {
	t.Helper()
	r := smallRecipe(t, "live-iso", `outputs = ["iso"]`)
	r.toml += "[boot]\ncmdline = \"console=ttyS0 panic=-1\"\n"
	r.files["kernel.deb"] = kernelDeb(t, "amd64", "full")
	return outputOf(t, r)
}

// onStick writes an image to a file that is larger, as to a stick of that size.
func onStick(t *testing.T, image string, size int64) string {
	t.Helper()
	stick := filepath.Join(t.TempDir(), "stick")
	writeTo(t, stick, image)
	if err := os.Truncate(stick, size); err != nil {
		t.Fatal(err)
	}
	return stick
}

func writeTo(t *testing.T, stick, image string, flags ...string) {
	t.Helper()
	must(t, "", command(t), append([]string{"write", "--yes", "--file", image, stick}, flags...)...)
}

func TestAnISOBootsAsACDAndAsAStickFromUEFIAndFromABIOS(t *testing.T) {
	t.Parallel()
	out := liveISO(t)
	iso := out.file("disk.iso")
	for _, c := range []struct {
		name, device string
		disk         qemu.Disk
		uefi         bool
	}{
		{"a CD from a BIOS", "/dev/sr0", qemu.Disk{Path: iso, Bus: qemu.CDROM}, false},
		{"a CD from UEFI", "/dev/sr0", qemu.Disk{Path: iso, Bus: qemu.CDROM}, true},
		{"a stick from a BIOS", "/dev/sda1", qemu.Disk{Bus: qemu.USB, Removable: true}, false},
		{"a stick from UEFI", "/dev/sda1", qemu.Disk{Bus: qemu.USB, Removable: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.disk.Path == "" {
				c.disk.Path = onStick(t, iso, 256<<20)
			}
			vars := ""
			if c.uefi {
				vars = filepath.Join(t.TempDir(), "vars")
			}
			vm := fromFirmware(t, c.disk.Path, vars, false)
			vm.Disks[0] = c.disk
			if c.disk.Bus == qemu.USB && c.uefi {
				// A copy of the ISO on a disk that stays in the machine does not make the stick a matter of luck.
				vm.Disks = append(vm.Disks, qemu.Disk{Path: iso, Bus: qemu.VirtioBlk, ReadOnly: true})
			}
			g := start(t, vm)
			g.shell()
			if got := g.run("cat /proc/cmdline"); !contains(got, `console=ttyS0 panic=-1 veneer\.store=UUID=[-0-9]{22}`) {
				t.Errorf("the kernel's command line is %q", got)
			}
			if got := g.run("veneer status"); !contains(got, `Verified +yes`) {
				t.Errorf("the boot was not verified:\n%s", got)
			}
			// What of a stick is mounted is the partition: the disk would keep others from its remaining room.
			if got := g.run("cat /proc/mounts"); !contains(got, c.device+` /run/initramfs/veneer/store iso9660 ro`) {
				t.Errorf("the store is not %s:\n%s", c.device, got)
			}
			g.leave("poweroff", "poweroff", qemu.PoweredOff)
		})
	}
}
