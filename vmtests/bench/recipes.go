package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"veneer/vmtests/qemu"
)

// recipes tells how each peer is made, in the order of the table. The first is the one that ratios refer to. veneer-state has a
// table of its own, against veneer.
var recipes = []struct {
	name string
	make func(context.Context, *Lab) (Peer, error)
}{
	{"floor", makeFloor},
	{"veneer-unverified", makeUnverified},
	{"veneer", makeVerified},
	{statePeer, makeState},
	{"systemd-verity", makeSystemdVerity},
	{"dracut", makeDracut},
	{"live-boot", makeLiveBoot},
	{"overlayroot", makeOverlayroot},
	{"plain", makePlain},
}

const statePeer = "veneer-state"

func everyPeer(string) bool { return true }

func volatile(name string) bool { return name != statePeer }

// medium returns the disk that the live systems boot from.
func (l *Lab) medium(ctx context.Context) (qemu.Disk, error) {
	return qemu.Disk{Path: l.path("medium.img"), Snapshot: true}, l.makeMedium(ctx)
}

// makeFloor packs busybox and just the modules that this VM needs.
func makeFloor(ctx context.Context, l *Lab) (Peer, error) {
	err := l.once("floor.img", func(part string) error {
		dir := part + ".d"
		defer os.RemoveAll(dir)
		for _, name := range []string{"bin", "modules", "dev", "proc", "medium", "base", "upper", "root"} {
			if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
				return err
			}
		}
		if _, err := output(ctx, "cp", "/bin/busybox", filepath.Join(dir, "bin")); err != nil {
			return fmt.Errorf("%w; apt-get install busybox-static", err)
		}
		if err := l.copyModules(ctx, filepath.Join(dir, "modules"), "virtio_pci", "virtio_blk", "ext4", "loop", "squashfs", "overlay"); err != nil {
			return err
		}
		if err := writeAsset("floor-init", filepath.Join(dir, "init"), 0o755); err != nil {
			return err
		}
		_, err := output(ctx, "sh", "-c", `cd "$1" && find . | cpio -o -H newc --quiet | zstd -19 -q -o "$2"`, "sh", dir, part)
		return err
	})
	medium, mediumErr := l.medium(ctx)
	return Peer{Title: "busybox floor (checks nothing)", Initrd: l.path("floor.img"), Disks: []qemu.Disk{medium}}, errors.Join(err, mediumErr)
}

// copyModules copies modules and what they depend on, named so that the order of names is the order of loading.
func (l *Lab) copyModules(ctx context.Context, to string, modules ...string) error {
	seen := map[string]bool{}
	for _, module := range modules {
		list, err := output(ctx, "chroot", l.path(baseTree), "modprobe", "-S", l.release, "--show-depends", module)
		if err != nil {
			return err
		}
		for _, line := range strings.Split(list, "\n") {
			verb, path, _ := strings.Cut(strings.TrimSpace(line), " ")
			if verb != "insmod" || seen[path] {
				continue
			}
			seen[path] = true
			name := fmt.Sprintf("%02d-%s", len(seen), filepath.Base(path))
			if _, err := output(ctx, "cp", l.path(baseTree, path), filepath.Join(to, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeSystemdVerity is the nearest verified peer: systemd opens the base with dm-verity in a dracut initramfs and puts a
// volatile overlay on it. The root hash comes from the command line, unsigned.
func makeSystemdVerity(ctx context.Context, l *Lab) (Peer, error) {
	const name = "systemd-verity.img"
	medium, err := l.medium(ctx)
	if err != nil {
		return Peer{}, err
	}
	if err := l.dracut(ctx, name, "systemd systemd-veritysetup systemd-initrd", "dm-verity",
		"--install", "/lib/systemd/systemd-volatile-root",
		"--include", "/lib/systemd/system/systemd-volatile-root.service", "/lib/systemd/system/systemd-volatile-root.service"); err != nil {
		return Peer{}, err
	}
	var said string
	err = l.once("base.hash", func(part string) (err error) {
		said, err = output(ctx, "veritysetup", "format", l.path("base.squashfs"), part)
		if err != nil {
			return err
		}
		hash := regexp.MustCompile(`Root hash:\s*([0-9a-f]+)`).FindStringSubmatch(said)
		if hash == nil {
			return fmt.Errorf("veritysetup printed no root hash: %s", said)
		}
		return os.WriteFile(l.path("base.roothash"), []byte(hash[1]), 0o644)
	})
	if err != nil {
		return Peer{}, err
	}
	hash, err := os.ReadFile(l.path("base.roothash"))
	return Peer{
		Title: "systemd verity + volatile overlay (dracut)", Verified: true, Initrd: l.path(name),
		Append: []string{"systemd.verity=1", "roothash=" + string(hash), "systemd.verity_root_data=/dev/vdb", "systemd.verity_root_hash=/dev/vdc",
			"root=/dev/mapper/root", "rootfstype=squashfs", "ro", "systemd.volatile=overlay"},
		Disks: []qemu.Disk{medium, {Path: l.path("base.squashfs"), ReadOnly: true}, {Path: l.path("base.hash"), ReadOnly: true}},
	}, err
}

func makeDracut(ctx context.Context, l *Lab) (Peer, error) {
	const name = "dracut-live.img"
	medium, err := l.medium(ctx)
	return Peer{Title: "dracut dmsquash-live", Initrd: l.path(name), Disks: []qemu.Disk{medium},
		Append: []string{"root=live:LABEL=LIVE", "rd.live.image", "rd.live.overlay.overlayfs=1"}}, errors.Join(err, l.dracut(ctx, name, "dmsquash-live", ""))
}

// dracut makes an initramfs for any machine, less what no live system on a disk needs.
func (l *Lab) dracut(ctx context.Context, name, modules, drivers string, more ...string) error {
	return l.once(name, func(part string) error {
		const inside = "/tmp/bench-initramfs"
		args := append([]string{l.path(baseTree), "dracut", "--quiet", "--force", "--no-hostonly", "--zstd",
			"--add", modules, "--omit", "network nfs nbd iscsi lvm mdraid multipath plymouth i18n",
			"--add-drivers", "virtio_blk virtio_pci overlay squashfs loop ext4 " + drivers}, more...)
		if _, err := output(ctx, "chroot", append(args, inside, l.release)...); err != nil {
			return err
		}
		_, err := output(ctx, "mv", l.path(baseTree, inside), part)
		return err
	})
}

func makeLiveBoot(ctx context.Context, l *Lab) (Peer, error) {
	medium, mediumErr := l.medium(ctx)
	initrd, err := l.initrd(ctx, liveTree)
	return Peer{Title: "live-boot", Initrd: initrd, Disks: []qemu.Disk{medium}, Append: []string{"boot=live"}}, errors.Join(mediumErr, err)
}

func makeOverlayroot(ctx context.Context, l *Lab) (Peer, error) {
	initrd, err := l.initrd(ctx, liveTree)
	return Peer{Title: "overlayroot over ext4", Initrd: initrd, Disks: []qemu.Disk{{Path: l.path("plain.img"), Snapshot: true}},
		// With ro the overlay itself would stay read-only until something remounts it.
		Append: []string{"root=LABEL=PLAIN", "rw", "overlayroot=tmpfs"}}, errors.Join(err, l.makePlainDisk(ctx))
}

func makePlain(ctx context.Context, l *Lab) (Peer, error) {
	initrd, err := l.initrd(ctx, ordinaryTree)
	return Peer{Title: "plain ext4 root, as installed", Initrd: initrd, Disks: []qemu.Disk{{Path: l.path("plain.img"), Snapshot: true}},
		Append: []string{"root=LABEL=PLAIN", "ro"}}, errors.Join(err, l.makePlainDisk(ctx))
}

// initrd returns the initramfs that the packages of a tree have made when they were installed. It must be for the kernel
// of the base, or its modules do not load.
func (l *Lab) initrd(ctx context.Context, tree string) (string, error) {
	if err := l.makeTree(ctx, tree); err != nil {
		return "", err
	}
	path := l.path(tree, "boot", "initrd.img-"+l.release)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w; the trees are of different days, remove %s", err, l.Dir)
	}
	return path, nil
}
