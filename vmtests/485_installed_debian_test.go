package vmtests

// A Debian as its installer leaves it, with systemd-boot, to which `veneer initramfs` adds an entry.
//
//	machine   q35, 1024 MiB, OVMF
//	disks     vda: GPT; an EFI system partition with the menu and Debian's entry, the root (ext4), a swap
//	console   Debian's own boot; then the one of the new entry, under an overlay; then Debian's own once more

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"veneer/vmtests/disks"
	"veneer/vmtests/qemu"
)

// installedPackages are what a Debian needs beside, to make an initramfs of ours.
const installedPackages = "zstd"

// installedDebian returns a disk, made once and kept, that a case may have a copy of.
func installedDebian(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("an installed Debian is made by unpacking it with its owners, and running its mkinitramfs in it: run the tests as root")
	}
	parts := shared.make(t, "an installed Debian", func() (string, error) {
		ctx := context.Background()
		sum := sha256.Sum256([]byte(installedPackages))
		archive := filepath.Join(shared.cache, "debian-installed-"+hex.EncodeToString(sum[:4])+"-bookworm-amd64.tar")
		if _, err := tool(ctx, shared.root, "examples/debian/tree", archive, installedPackages); err != nil {
			return "", err
		}
		key := sha256.Sum256([]byte(archive + installation))
		dir := filepath.Join(shared.cache, "vmtests", "installed-debian-"+hex.EncodeToString(key[:10]))
		if _, err := os.Stat(dir); err == nil {
			return dir, nil
		}
		part := dir + ".part"
		if err := errors.Join(os.RemoveAll(part), os.Mkdir(part, 0o755)); err != nil {
			return "", err
		}
		if _, err := tool(ctx, part, "env", "archive="+archive, "root_uuid="+fsUUID, "sh", "-c", installation); err != nil {
			return "", err
		}
		return dir, os.Rename(part, dir)
	})
	dir := t.TempDir()
	veneer, root := filepath.Join(dir, "veneer"), filepath.Join(dir, "root.img")
	must(t, shared.root, "env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-buildvcs=false", "-o", veneer, "./cmd/veneer")
	must(t, "", "cp", "--sparse=always", filepath.Join(parts, "root.img"), root)
	must(t, dir, "debugfs", "-w", "-R", "write "+veneer+" usr/local/bin/veneer", root)
	must(t, dir, "debugfs", "-w", "-R", "set_inode_field usr/local/bin/veneer mode 0100755", root)
	img := filepath.Join(dir, "disk.img")
	err := disks.Partition(img, disks.Part{Name: "ESP", Image: filepath.Join(parts, "esp.img")}, disks.Part{Name: "root", Image: root},
		disks.Part{Name: "swap", Image: filepath.Join(parts, "swap.img")})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// installation makes esp.img, root.img and swap.img.
const installation = `set -eu
mkdir tree
tar -C tree -xf "$archive"
release=$(cd tree/lib/modules && echo *)
cat >tree/etc/fstab <<EOF
# / was on /dev/vda2 during installation
UUID=$root_uuid / ext4 errors=remount-ro 0 1
UUID=6B1C-2F0E /boot/efi vfat umask=0077 0 1
UUID=0d4a7b1c-64b2-4a52-9f66-9f3f5c1d2e03 none swap sw 0 0
EOF
mkdir -p tree/boot/efi
chroot tree mkinitramfs -o "/boot/initrd.img-$release" "$release" 2>/dev/null
truncate -s 96M esp.img; truncate -s 900M root.img; truncate -s 16M swap.img
mke2fs -q -t ext4 -U "$root_uuid" -d tree root.img
mkswap -q -U 0d4a7b1c-64b2-4a52-9f66-9f3f5c1d2e03 swap.img
mkfs.vfat -F 32 -i 6B1C2F0E esp.img >/dev/null
mmd -i esp.img ::EFI ::EFI/BOOT ::loader ::loader/entries ::debian "::debian/$release"
mcopy -i esp.img /usr/lib/systemd/boot/efi/systemd-bootx64.efi ::EFI/BOOT/BOOTX64.EFI
mcopy -i esp.img "tree/boot/vmlinuz-$release" "::debian/$release/linux"
mcopy -i esp.img "tree/boot/initrd.img-$release" "::debian/$release/initrd"
printf 'timeout 1\n' | mcopy -i esp.img - ::loader/loader.conf
cat >entry <<EOF
title      Debian GNU/Linux 12 (bookworm)
version    $release
sort-key   debian
options    root=UUID=$root_uuid ro quiet console=ttyS0
linux      /debian/$release/linux
initrd     /debian/$release/initrd
EOF
mcopy -i esp.img entry "::loader/entries/debian-$release.conf"
rm -r tree entry
`

func TestAnInstalledDebianGetsAnEntryThatForgets(t *testing.T) {
	t.Parallel()
	img := installedDebian(t)
	vm := fromFirmware(t, img, filepath.Join(t.TempDir(), "vars"), false)
	vm.Disks[0].Snapshot = false
	const list = `find /boot /etc/kernel | sort | while read f; do [ -d "$f" ] && echo "$f" || sha256sum "$f"; done`

	// Debian's own boot.
	g := login(t, vm)
	g.run(list + " > /root/before")
	if got := g.run("veneer initramfs --for-running-kernel --dry-run"); !contains(got, `would write /boot/efi/loader/entries/veneer-`) {
		t.Errorf("the dry run says\n%s", got)
	}
	g.run(list + " | cmp - /root/before")
	said := g.run("veneer initramfs --for-running-kernel")
	for _, want := range []string{`root +UUID=` + fsUUID + `\n`, `drivers +.*virtio_blk.*virtio_pci`, `(?m)^write /etc/kernel/postinst.d/zz-veneer$`} {
		if !contains(said, want) {
			t.Errorf("veneer initramfs does not say %q:\n%s", want, said)
		}
	}
	g.run("echo default veneer-* >> /boot/efi/loader/loader.conf")
	g.run("sync")
	g.send("systemctl reboot")
	g.ends(qemu.Reset)

	// The entry.
	g = login(t, vm)
	if state, code := g.try("systemctl is-system-running --wait"); code != 0 {
		t.Errorf("systemctl is-system-running: %s%s", state, g.run("systemctl list-units --failed --plain --no-legend --no-pager"))
	}
	status := strings.Join(strings.Fields(g.run("veneer status")), " ")
	for _, want := range []string{`debian 12`, `Deployment installed`, `Verified NO: unverified`, `Upper tmpfs, volatile`, `/boot/efi is kept`} {
		if !contains(status, want) {
			t.Errorf("veneer status does not tell %q:\n%s", want, status)
		}
	}
	if kind := g.run("findmnt -n -o FSTYPE,OPTIONS /"); !contains(kind, `^overlay +rw`) {
		t.Errorf("/ is %q, want a writable overlay", kind)
	}
	if got := g.run("cat /run/motd.d/veneer"); !contains(got, `not verified: the root is that of an installed system`) {
		t.Errorf("the banner says\n%s", got)
	}
	if got := g.run("tail -n +2 /proc/swaps"); got != "" {
		t.Errorf("swap is on:\n%s", got)
	}
	if out, code := g.try("veneer initramfs --for-running-kernel"); code == 0 || !contains(out, `runs under an overlay`) {
		t.Errorf("under the overlay veneer initramfs exits with %d:\n%s", code, out)
	}
	g.run("touch /root/forgotten /etc/forgotten")
	if got := g.run("veneer diff /root"); !contains(got, `A /root/forgotten`) {
		t.Errorf("veneer diff says\n%s", got)
	}
	// The menu is on a partition that is not under the overlay.
	g.run("sed -i /^default/d /boot/efi/loader/loader.conf")
	g.run("sync")
	g.leave("systemctl reboot", "reboot", qemu.Reset)

	// Debian's own boot again: as writable as before, and rid of the entry.
	g = login(t, vm)
	if _, code := g.try("ls /root/forgotten /etc/forgotten"); code == 0 {
		t.Error("what was written under the overlay is still there")
	}
	g.run("touch /root/kept")
	if kind := g.run("findmnt -n -o FSTYPE,OPTIONS /"); !contains(kind, `^ext4 +rw`) {
		t.Errorf("/ is %q, want a writable ext4", kind)
	}
	g.run("veneer initramfs --remove")
	g.run(list + " | cmp - /root/before")
	g.send("systemctl poweroff")
	g.ends(qemu.PoweredOff)
}
