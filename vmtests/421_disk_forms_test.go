package vmtests

// Disks that are not the usual: sectors of 4 KiB, a first partition table that is damaged on a medium that cannot be written to, qcow2,
// more than 2 TiB, and a machine with another processor.
//
//	machine   q35 or virt, 512 MiB (1024 for the large disk); OVMF or AAVMF, no kernel from outside
//	disks     vda: what the case names
//	console   the firmware, then the shell; the large disk shows the steps of its state

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"veneer/vmtests/qemu"
)

func TestADiskWithLargeSectorsBoots(t *testing.T) {
	t.Parallel()
	r := smallRecipe(t, "bootable-4k", `outputs = ["disk"]`)
	r.toml += "[boot]\ncmdline = \"console=ttyS0 panic=-1\"\nsector = 4096\n"
	vm := fromFirmware(t, outputOf(t, r).file("disk.img"), filepath.Join(t.TempDir(), "vars"), false)
	vm.Disks[0].Sector = 4096
	g := start(t, vm)
	g.bootsWhole()
	if got := strings.TrimSpace(g.run("cat /sys/block/vda/queue/logical_block_size")); got != "4096" {
		t.Errorf("the sectors have %s bytes", got)
	}
	g.leave("poweroff", "poweroff", qemu.PoweredOff)
}

// EDK II mends the first copy from the backup before it looks for anything to start; Linux, booted directly here, reads the backup.
func TestADamagedFirstTableDoesNotHinder(t *testing.T) {
	t.Parallel()
	out := bootable(t, "bootable", "")
	damaged := copied(t, out.file("disk.img"))
	f, err := os.OpenFile(damaged, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 512), 512); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	said, err := tool(t.Context(), shared.root, command(t), "verify", damaged)
	if err == nil || !contains(said+err.Error(), `BAD +partition table: the first copy is damaged`) || !contains(said+err.Error(), `1 of \d+ checks failed`) {
		t.Errorf("veneer verify: %v\n%s", err, said)
	}
	firmware := fromFirmware(t, copied(t, damaged), filepath.Join(t.TempDir(), "vars"), false)
	firmware.Disks[0].Snapshot = false
	direct := out.vm(t, damaged) // which it cannot write to
	for name, vm := range map[string]qemu.VM{"mended by UEFI": firmware, "read from the backup by Linux": direct} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := read(t, vm.Disks[0].Path)
			g := start(t, vm)
			if vm.Kernel != "" {
				g.expect(`Primary GPT is invalid, using alternate GPT`)
			}
			g.bootsWhole()
			g.leave("poweroff", "poweroff", qemu.PoweredOff)
			if vm.Kernel == "" {
				isSound(t, vm.Disks[0].Path)
			} else if string(before) != string(read(t, vm.Disks[0].Path)) {
				t.Error("the medium was written to")
			}
		})
	}
}

// bootsWhole waits for the shell of a boot that was verified and is not degraded.
func (g *guest) bootsWhole() {
	g.t.Helper()
	g.shell()
	if got := g.run("veneer status"); !contains(got, `Verified +yes`) || !contains(got, `Degraded +no`) {
		g.t.Errorf("the boot was not verified, or degraded:\n%s", got)
	}
}

func TestADiskThatCannotBeWrittenToBootsFromItsFirmware(t *testing.T) {
	t.Parallel()
	vm := fromFirmware(t, bootable(t, "bootable", "").file("disk.img"), filepath.Join(t.TempDir(), "vars"), false)
	vm.Disks[0].Snapshot, vm.Disks[0].ReadOnly = false, true
	g := start(t, vm)
	g.bootsWhole()
	g.leave("poweroff", "poweroff", qemu.PoweredOff)
}

func TestADiskOfMoreThanTwoTebibytesBootsAndIsUsedToItsEnd(t *testing.T) {
	t.Parallel()
	out := keptByFirmware(t)
	large := filepath.Join(t.TempDir(), "disk.qcow2")
	must(t, shared.root, "qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", out.file("disk.img"), large)
	must(t, shared.root, "qemu-img", "resize", "-q", large, "3T")
	vm := fromFirmware(t, large, filepath.Join(t.TempDir(), "vars"), false)
	vm.MemoryMiB, vm.Disks[0].Snapshot, vm.Disks[0].Format = 1024, false, "qcow2"
	for _, kept := range []string{"", "secret"} {
		g := start(t, vm)
		g.prompt = `(?m:^# )`
		g.shell()
		g.keepsAll()
		const tebibyte = 1 << 40 / 512
		if got := atoi(t, g.run("cat /sys/block/vda/vda3/size")); got < 29*tebibyte/10 {
			t.Errorf("the state has %d sectors", got)
		}
		g.holds("/srv/kept", kept)
		g.run("echo secret > /srv/kept; sync")
		g.cut()
	}
	must(t, shared.root, "qemu-img", "check", "-q", large)
}

func TestADiskForArm64BootsFromItsFirmware(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/usr/share/AAVMF/AAVMF_CODE.fd"); err != nil {
		t.Fatalf("%v; apt-get install qemu-efi-aarch64", err)
	}
	deb := kernelDeb(t, "arm64", "efi")
	dir := t.TempDir()
	must(t, dir, "sh", "-c", `dpkg-deb --fsys-tarfile "$0" | tar -x ./usr/lib/systemd/boot/efi/linuxaa64.efi.stub`, deb)
	r := smallRecipe(t, "bootable-arm64", `outputs = ["disk", "disk.qcow2"]`)
	r.files["base.tar"], r.files["kernel.deb"] = smallTree(t, "arm64"), kernelDeb(t, "arm64", "cloud")
	r.files["stub"] = filepath.Join(dir, "usr/lib/systemd/boot/efi/linuxaa64.efi.stub")
	r.toml += "[boot]\ncmdline = \"console=ttyAMA0 panic=-1\"\nstub = \"stub\"\n"
	out := outputOf(t, r)
	vm := qemu.VM{Arch: "arm64", MemoryMiB: 512, Disks: []qemu.Disk{{Path: out.file("disk.qcow2"), Format: "qcow2", Bus: qemu.VirtioBlk, Snapshot: true}}}
	var err error
	if vm.Firmware, err = qemu.UEFI(vm.Arch, false, filepath.Join(t.TempDir(), "vars")); err == nil {
		err = vm.Firmware.Prepare(false)
	}
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, vm)
	g.shell()
	if got := g.run("veneer status"); !contains(got, `small 1\.2 \(epoch 3, arm64\)`) || !contains(got, `Verified +yes`) {
		t.Errorf("veneer status does not tell of the small base for arm64, verified:\n%s", got)
	}
	g.leave("poweroff", "poweroff", qemu.PoweredOff)
}

// The sizes are those of Debian's kernel and of our initramfs for it.
func TestAUKIIsLittleLargerThanItsParts(t *testing.T) {
	t.Parallel()
	out := bootable(t, "bootable", "")
	size := func(name string) int64 {
		info, err := os.Stat(out.file(name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	uki, parts := size("uki.efi"), size("vmlinuz")+size("initramfs.cpio.zst")
	t.Logf("the UKI has %d bytes, kernel and initramfs %d: %d more", uki, parts, uki-parts)
	if uki > parts+200_000 {
		t.Errorf("the UKI has %d bytes more than kernel and initramfs", uki-parts)
	}
}
