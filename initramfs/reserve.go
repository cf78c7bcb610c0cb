package initramfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Most of a generic initramfs is modules that this machine does not need: XFS and btrfs alone are half of it. The kernel unpacks
// and later frees them all the same, at each boot. So they lie in one squashfs file, which costs what it weighs packed; PID 1
// mounts it when it meets a module that does not lie beside it.

// reserveImage is that file; its modules are NAME.ko in its root.
const reserveImage = "lib/modules/reserve.squashfs"

// reserveBlock is the largest block of squashfs: modules are read whole, and more of it packs better.
const reserveBlock = 1 << 20

// atHand is what nearly every boot loads, beside what the images need.
var atHand = slices.Concat(required.names, []string{"squashfs", "ext4", "virtio_pci", "virtio_blk"}, variables.names)

// split parts the modules in those at hand and those in reserve. Without squashfs among the needs nothing says that the kernel
// could read a reserve, and all are at hand.
func (s *selection) split(need []string) (hand, reserve []*module) {
	if !slices.Contains(need, "squashfs") {
		return s.order, nil
	}
	near := map[string]bool{}
	var keep func(name string)
	keep = func(name string) {
		if name = canonical(name); near[name] {
			return
		}
		near[name] = true
		for _, dep := range s.deps[name] {
			keep(dep)
		}
		for _, v := range s.optional {
			if v.before == name {
				keep(v.name)
			}
		}
	}
	for _, name := range slices.Concat(atHand, need) {
		keep(name)
	}
	for _, m := range s.order {
		if near[moduleName(m.path)] {
			hand = append(hand, m)
		} else {
			reserve = append(reserve, m)
		}
	}
	return hand, reserve
}

// packReserve returns a squashfs image of modules. The same modules give the same bytes.
func packReserve(ctx context.Context, level int, modules []*module) (image []byte, err error) {
	dir, err := os.MkdirTemp("", "veneer-reserve-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	tree, out := filepath.Join(dir, "tree"), filepath.Join(dir, "image")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return nil, err
	}
	for _, m := range modules {
		file := filepath.Join(tree, moduleName(m.path)+".ko")
		// The mode goes into the image, and must not be the umask's.
		if err := errors.Join(os.WriteFile(file, m.data, 0o644), os.Chmod(file, 0o644)); err != nil {
			return nil, err
		}
	}
	cmd := exec.CommandContext(ctx, "mksquashfs", tree, out, "-noappend", "-no-exports", "-no-xattrs", "-no-progress", "-quiet",
		"-comp", "zstd", "-Xcompression-level", strconv.Itoa(level), "-b", strconv.Itoa(reserveBlock),
		"-all-root", "-root-mode", "0755", "-mkfs-time", "0", "-all-time", "0")
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "SOURCE_DATE_EPOCH=") })
	if said, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("pack the modules in reserve: %w; install the package squashfs-tools\n%s", err, said)
	}
	return os.ReadFile(out)
}
