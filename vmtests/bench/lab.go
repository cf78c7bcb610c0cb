package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"veneer/vmtests/qemu"
)

// arch is the architecture that the bench compares on: the peers' tools run in a chroot, natively.
const arch = "amd64"

//go:embed assets
var assets embed.FS

// Lab is the directory in which the material of the bench is made and kept.
type Lab struct {
	Dir     string
	Veneer  string    // the veneer command; built when empty
	Say     io.Writer // progress
	release string    // of the kernel that everything boots
}

// Peer is one way to boot the base.
type Peer struct {
	Name     string // for -peers
	Title    string // for the table
	Verified bool   // each block of the base is checked when it is read
	Initrd   string
	Append   []string
	Disks    []qemu.Disk
	Settles  bool // its first boot makes what all others find, and is not measured
}

// The trees. The base is the one that every peer boots; the others lend their initramfs. dracut and initramfs-tools
// conflict with each other, and live-boot changes what initramfs-tools makes, so there is a tree for each.
const (
	basePackages = "systemd,systemd-sysv,udev,dbus,login,kmod,iproute2,linux-image-cloud-amd64,dmsetup,cryptsetup-bin,zstd,busybox"

	baseTree     = "tree-dracut"
	ordinaryTree = "tree-initramfs-tools"
	liveTree     = "tree-live-boot"
)

var treePackages = map[string]string{
	baseTree:     "dracut,dracut-live",
	ordinaryTree: "initramfs-tools",
	liveTree:     "initramfs-tools,live-boot,live-boot-initramfs-tools,overlayroot",
}

// Prepare makes the base and its kernel, and of the peers whose names are in only, or all, of those that which takes, what is missing:
//   - the base's tree, by mmdebstrap, with the programs that tell the time; then those that lend their initramfs
//   - the base image, and the medium: one ext4 file system with the base where each live system looks for it
//   - each peer's initramfs, by the peer's own tool; Veneer's outputs, by `veneer build`
func (l *Lab) Prepare(ctx context.Context, only string, which func(name string) bool) ([]Peer, error) {
	if err := l.makeTree(ctx, baseTree); err != nil {
		return nil, err
	}
	releases, err := os.ReadDir(l.path(baseTree, "lib/modules"))
	if err != nil || len(releases) != 1 {
		return nil, fmt.Errorf("want one kernel in %s, got %d (%v); remove it", l.path(baseTree), len(releases), err)
	}
	l.release = releases[0].Name()
	var peers []Peer
	for _, recipe := range recipes {
		if only != "" && !contains(only, recipe.name) || !which(recipe.name) {
			continue
		}
		peer, err := recipe.make(ctx, l)
		if err != nil {
			return nil, fmt.Errorf("prepare %s: %w", recipe.name, err)
		}
		peer.Name = recipe.name
		peers = append(peers, peer)
	}
	if len(peers) == 0 {
		return nil, fmt.Errorf("no peer is called %q", only)
	}
	return peers, nil
}

func contains(list, name string) bool {
	return strings.Contains(","+list+",", ","+name+",")
}

func (l *Lab) path(elements ...string) string {
	return filepath.Join(append([]string{l.Dir}, elements...)...)
}

func (l *Lab) kernel() string { return l.path(baseTree, "boot", "vmlinuz-"+l.release) }

// once makes the file or directory name, unless it exists. It appears by rename, so an interrupted run leaves none.
func (l *Lab) once(name string, make func(part string) error) error {
	path := l.path(name)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	fmt.Fprintf(l.Say, "bench: make %s …\n", name)
	begin := time.Now()
	part := path + ".part"
	if err := errors.Join(remove(part), make(part)); err != nil {
		return errors.Join(fmt.Errorf("make %s: %w", name, err), remove(part))
	}
	if err := os.Rename(part, path); err != nil {
		return err
	}
	fmt.Fprintf(l.Say, "bench: made %s in %v\n", name, time.Since(begin).Round(time.Second))
	return nil
}

// remove deletes a file or a tree, but not what is mounted inside: a mmdebstrap that was interrupted may leave the /dev and
// /proc of the host in its tree.
func remove(path string) error {
	_, err := output(context.Background(), "rm", "-rf", "--one-file-system", path)
	return err
}

func (l *Lab) makeTree(ctx context.Context, tree string) error {
	if err := os.MkdirAll(l.Dir, 0o755); err != nil {
		return err
	}
	return l.once(tree, func(part string) error {
		_, err := output(ctx, "mmdebstrap", "-q", "--variant=minbase", "--include="+basePackages+","+treePackages[tree], "bookworm", part)
		if err != nil || tree != baseTree {
			return err
		}
		unit := "etc/systemd/system/bench-ready.service"
		return errors.Join(
			writeAsset("bench-init", filepath.Join(part, "bench-init"), 0o755),
			writeAsset("bench-ready.service", filepath.Join(part, unit), 0o644),
			os.MkdirAll(filepath.Join(part, "etc/systemd/system/multi-user.target.wants"), 0o755),
			os.Symlink("/"+unit, filepath.Join(part, "etc/systemd/system/multi-user.target.wants/bench-ready.service")),
			removeInitrds(part))
	})
}

// removeInitrds takes the ready-made initramfs out of the base: each peer brings its own, beside the tree.
func removeInitrds(tree string) error {
	names, err := filepath.Glob(filepath.Join(tree, "boot/initrd.img*"))
	links, linkErr := filepath.Glob(filepath.Join(tree, "initrd.img*"))
	errs := []error{err, linkErr}
	for _, name := range append(names, links...) {
		errs = append(errs, os.Remove(name))
	}
	return errors.Join(errs...)
}

func (l *Lab) makeBase(ctx context.Context) error {
	return l.once("base.squashfs", func(part string) error {
		_, err := output(ctx, "mksquashfs", l.path(baseTree), part, "-comp", "zstd", "-noappend", "-quiet", "-no-progress", "-e", "boot")
		return err
	})
}

func (l *Lab) makeMedium(ctx context.Context) error {
	if err := l.makeBase(ctx); err != nil {
		return err
	}
	return l.once("medium.img", func(part string) error {
		content := part + ".d"
		defer os.RemoveAll(content)
		for _, name := range []string{"LiveOS/squashfs.img", "live/filesystem.squashfs"} {
			path := filepath.Join(content, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Link(l.path("base.squashfs"), path)); err != nil {
				return err
			}
		}
		_, err := output(ctx, "mke2fs", "-q", "-t", "ext4", "-L", "LIVE", "-d", content, part, "400M")
		return err
	})
}

// plainFstab is what Debian's installer writes for a root: it is checked, and then made writable.
const plainFstab = "LABEL=PLAIN / ext4 errors=remount-ro 0 1\n"

// makePlainDisk makes the ordinary installation: the same tree on an ext4 root.
func (l *Lab) makePlainDisk(ctx context.Context) error {
	return l.once("plain.img", func(part string) error {
		if _, err := output(ctx, "mke2fs", "-q", "-t", "ext4", "-L", "PLAIN", "-d", l.path(baseTree), part, "1G"); err != nil {
			return err
		}
		fstab := part + ".fstab"
		defer os.Remove(fstab)
		if err := os.WriteFile(fstab, []byte(plainFstab), 0o644); err != nil {
			return err
		}
		for _, order := range []string{"rm /etc/fstab", "write " + fstab + " /etc/fstab"} {
			if _, err := output(ctx, "debugfs", "-w", "-R", order, part); err != nil {
				return err
			}
		}
		return nil
	})
}

func writeAsset(name, path string, mode os.FileMode) error {
	content, err := assets.ReadFile("assets/" + name)
	if err != nil {
		return err
	}
	return os.WriteFile(path, content, mode)
}

// output runs a program and returns its standard output; its error holds what it said. When ctx ends the program is asked
// to end, so that it can undo its mounts.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(said.String() + out.String())
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, text[max(0, len(text)-2000):])
	}
	return out.String(), nil
}
