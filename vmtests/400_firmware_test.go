package vmtests

// Disks that firmware boots, as users write them to a machine: the output "disk" of the small base, from UEFI, from a BIOS, and with
// Secure Boot from its setup mode on.
//
//	machine   q35 or virt, 512 MiB; OVMF or SeaBIOS, no kernel from outside
//	disks     vda: the output's disk.img, what is written to it is thrown away
//	console   the firmware, the menu, then what each boot shows

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	efi "veneer/images/disk"
	"veneer/vmtests/qemu"
)

// secureKeys returns a directory with the keys of Secure Boot, made once and kept: outputs depend on them.
func secureKeys(t *testing.T) string {
	t.Helper()
	veneer := command(t)
	return shared.make(t, "keys of Secure Boot", func() (string, error) {
		dir := filepath.Join(shared.cache, "vmtests", "secure-boot")
		if _, err := os.Stat(filepath.Join(dir, "db.auth")); err == nil {
			return dir, nil
		}
		_, err := tool(t.Context(), shared.root, veneer, "keygen", "--secure-boot", dir)
		return dir, err
	})
}

// bootable is the small base as a disk, and more of the table boot.
func bootable(t *testing.T, name, more string) output {
	t.Helper()
	r := smallRecipe(t, name, `outputs = ["store", "uki", "disk"]`)
	r.toml += "[boot]\ncmdline = \"console=ttyS0 panic=-1\"\n" + more
	return outputOf(t, r)
}

// fromFirmware is a machine that boots a disk file by itself. vars are the variables of UEFI; "" stands for a BIOS.
func fromFirmware(t *testing.T, disk, vars string, secure bool) qemu.VM {
	t.Helper()
	vm := qemu.VM{Arch: "amd64", MemoryMiB: 512, Disks: []qemu.Disk{{Path: disk, Bus: qemu.VirtioBlk, Snapshot: true}}}
	if vars == "" {
		return vm
	}
	var err error
	if vm.Firmware, err = qemu.UEFI(vm.Arch, secure, vars); err == nil {
		err = vm.Firmware.Prepare(false)
	}
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func TestADiskBootsFromUEFIAndFromABIOS(t *testing.T) {
	t.Parallel()
	out := bootable(t, "bootable", "")
	for name, vars := range map[string]string{"UEFI": filepath.Join(t.TempDir(), "vars"), "BIOS": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if vars != "" {
				vars = filepath.Join(t.TempDir(), "vars")
			}
			g := start(t, fromFirmware(t, out.file("disk.img"), vars, false))
			g.shell()
			if got := g.run("cat /proc/cmdline"); !contains(got, `console=ttyS0 panic=-1`) {
				t.Errorf("the kernel's command line is %q", got)
			}
			if got := g.run("veneer status"); !contains(got, `Verified +yes`) {
				t.Errorf("the boot was not verified:\n%s", got)
			}
			g.leave("poweroff", "poweroff", qemu.PoweredOff)
		})
	}
}

// Each part of what firmware starts lies under one signature: whatever is changed in it, nothing of it runs.
func TestUnderSecureBootOnlyWhatIsSignedRuns(t *testing.T) {
	t.Parallel()
	keys := secureKeys(t)
	quoted := func(name string) string { return `"` + filepath.Join(keys, name) + `"` }
	out := bootable(t, "secure", "menu = true\nenroll = \""+keys+"\"\nenroll-unasked = true\nkey = "+quoted("db.key")+"\ncert = "+quoted("db.crt")+"\n")
	vars := filepath.Join(t.TempDir(), "vars")

	setup := start(t, fromFirmware(t, out.file("disk.img"), vars, true))
	setup.expect(`Enrolling secure boot keys`)
	setup.ends(qemu.Reset)

	g := start(t, fromFirmware(t, out.file("disk.img"), vars, true))
	g.expect(`Secure boot enabled`)
	g.shell()
	g.leave("poweroff", "poweroff", qemu.PoweredOff)

	image, uki := read(t, out.file("disk.img")), read(t, out.file("uki.efi"))
	at := bytes.Index(image, uki)
	if at < 0 {
		t.Fatal("the UKI does not lie in one piece on the disk")
	}
	within := func(part []byte) int64 { return int64(at) + indexOf(t, uki, part) }
	flip := func(offset int64) func([]byte) { return func(b []byte) { b[offset] ^= 1 } }
	bare, err := efi.Unsigned(uki)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		spoil func([]byte)
	}{
		{"another command line", func(b []byte) { copy(b[within([]byte("console=ttyS0 panic=-1")):], "init=/bin/sh         ") }},
		{"a flipped bit in the initramfs", flip(within(read(t, out.file("initramfs.cpio.zst"))[:512]) + 100_000)},
		{"a flipped bit in the kernel", flip(within(read(t, out.file("vmlinuz"))[:512]) + 1_000_000)},
		{"the signature taken away", func(b []byte) { clear(b[at : at+len(uki)]); copy(b[at:], bare) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			spoiled := bytes.Clone(image)
			c.spoil(spoiled)
			file, own := filepath.Join(t.TempDir(), "disk.img"), filepath.Join(t.TempDir(), "vars")
			for path, content := range map[string][]byte{file: spoiled, own: read(t, vars)} {
				if err := os.WriteFile(path, content, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			g := start(t, fromFirmware(t, file, own, true))
			g.expect(`(?i)access denied|security (policy )?violation`)
			g.never(`Linux version`, `veneer: `)
			g.Kill()
		})
	}
}
