package build

import (
	"context"
	"fmt"
	"os"
	"strconv"
)

// zstdLevel of a disk: images and initramfs are compressed already, so that more time saves little; the holes are what counts.
const zstdLevel = 3

// makeQcow2 stages the disk for virtual machines: QEMU's format with what holds no data left out. Nothing in it depends on the host but
// the version of qemu-img.
func (b *builder) makeQcow2(ctx context.Context) error {
	convert := command{dir: b.stage.dir, argv: []string{b.tools["qemu-img"], "convert", "-q", "-f", "raw", "-O", "qcow2",
		"-o", "compat=1.1,cluster_size=65536,lazy_refcounts=off,preallocation=off", outDisk, outQcow2}}
	if err := convert.run(ctx); err != nil {
		return fmt.Errorf("make %s: %w", outQcow2, err)
	}
	return b.finish(outQcow2)
}

// makeZstd stages the disk in one compressed file. The number of threads has no say in its bytes.
func (b *builder) makeZstd(ctx context.Context) error {
	pack := command{dir: b.stage.dir, argv: []string{b.tools["zstd"], "-q", "-T0", "-" + strconv.Itoa(zstdLevel), "--check", "--no-progress", "-o", outZstd, outDisk}}
	if err := pack.run(ctx); err != nil {
		return fmt.Errorf("make %s: %w", outZstd, err)
	}
	return b.finish(outZstd)
}

// finish gives a file that a program made its mode, and makes it durable.
func (b *builder) finish(name string) error {
	if err := os.Chmod(b.stage.path(name), 0o644); err != nil {
		return err
	}
	return syncFile(b.stage.path(name))
}
