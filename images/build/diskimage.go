package build

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"

	"veneer/images/disk"
	"veneer/initramfs/machine/probe"
)

const (
	qcow2Magic = "QFI\xfb"
	zstdMagic  = "\x28\xb5\x2f\xfd"
)

// diskImage is a raw disk with the partitions that a build makes.
type diskImage struct {
	path       string
	size       int64
	sector     int
	table      *probe.GPT
	esp, store probe.Partition
}

// openDisk reads the table of a raw disk, whatever its sectors.
func openDisk(path string) (d diskImage, err error) {
	f, size, err := openRegular(path)
	if err != nil {
		return d, err
	}
	defer f.Close()
	d.path, d.size = path, size
	for _, d.sector = range []int{disk.Sector, disk.LargeSector} {
		if d.table, err = probe.ReadGPT(f, size, d.sector); err == nil {
			break
		}
		if len(d.headerAt(f)) > 0 {
			break // such a table, and it is damaged
		}
	}
	if err != nil {
		return d, err
	}
	for name, p := range map[string]*probe.Partition{espName: &d.esp, storeName: &d.store} {
		found, _, ok, err := d.table.Find(name)
		if err == nil && !ok {
			err = fmt.Errorf("no partition is called %s", name)
		}
		if err != nil {
			return d, err
		}
		*p = found
	}
	return d, nil
}

// headerAt returns the magic number of the first header, if it is there.
func (d diskImage) headerAt(f io.ReaderAt) []byte {
	magic := make([]byte, 8)
	if _, err := f.ReadAt(magic, int64(d.sector)); err != nil || string(magic) != "EFI PART" {
		return nil
	}
	return magic
}

// eachOnESP shows the files on the EFI system partition, by their paths from its root.
func (d diskImage) eachOnESP(ctx context.Context, show func(path string, content []byte) error) error {
	at := fmt.Sprintf("%s@@%d", d.path, d.esp.Start)
	var list strings.Builder
	if err := mtools(ctx, &list, "mdir", "-i", at, "-a", "-b", "-/", "::"); err != nil {
		return err
	}
	for name := range strings.Lines(list.String()) {
		name = strings.TrimSuffix(name, "\n")
		if name == "" || strings.HasSuffix(name, "/") {
			continue // a directory
		}
		var content bytes.Buffer
		if err := mtools(ctx, &content, "mcopy", "-n", "-i", at, name, "-"); err != nil {
			return err
		}
		if err := show(strings.TrimPrefix(name, "::"), content.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func mtools(ctx context.Context, w io.Writer, name string, args ...string) error {
	tool, err := findTool(name)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, tool, args...)
	said := &tail{limit: maxMessages}
	cmd.Env, cmd.Stdout, cmd.Stderr = []string{"LC_ALL=C", "TZ=UTC", "MTOOLSRC=/dev/null", "MTOOLS_SKIP_CHECK=1"}, w, said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(said.buf.String()))
	}
	return nil
}

// rawDisk returns a disk as the tools read it: itself, or unpacked into a temporary file with holes, which done removes.
func rawDisk(ctx context.Context, path string) (raw string, done func(), err error) {
	f, _, err := openRegular(path)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	magic := make([]byte, 4)
	if _, err := f.ReadAt(magic, 0); err != nil {
		return "", nil, fmt.Errorf("%s: %w", path, err)
	}
	if string(magic) != qcow2Magic && string(magic) != zstdMagic {
		return path, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "veneer-disk-")
	if err != nil {
		return "", nil, err
	}
	done = func() { _ = os.RemoveAll(dir) }
	raw = filepath.Join(dir, outDisk)
	if string(magic) == qcow2Magic {
		if err = standsAlone(f); err == nil {
			err = unpackQcow2(ctx, path, raw)
		}
	} else {
		err = unpackZstd(ctx, f, raw)
	}
	if err != nil {
		done()
		return "", nil, fmt.Errorf("%s: %w", path, roomError(err, dir, 0))
	}
	return raw, done, nil
}

// standsAlone refuses a qcow2 file that names other files, which qemu-img would read, and without which it boots nothing. See
// docs/interop/qcow2.rst of QEMU.
func standsAlone(f *os.File) error {
	header := make([]byte, 80)
	if _, err := f.ReadAt(header, 0); err != nil {
		return fmt.Errorf("qcow2 header: %w", err)
	}
	const version, backing, incompatible, external = 4, 8, 72, 4
	if binary.BigEndian.Uint64(header[backing:]) != 0 || binary.BigEndian.Uint32(header[version:]) >= 3 && binary.BigEndian.Uint64(header[incompatible:])&external != 0 {
		return errors.New("it is a part of a disk, and names another file with the rest (a backing file, or one for the data): make it one file, qemu-img convert -O qcow2")
	}
	return nil
}

func unpackQcow2(ctx context.Context, path, raw string) error {
	tool, err := findTool("qemu-img")
	if err != nil {
		return err
	}
	for _, args := range [][]string{{"check", "-q", "-f", "qcow2", path}, {"convert", "-q", "-f", "qcow2", "-O", "raw", path, raw}} {
		if err := (command{argv: append([]string{tool}, args...)}).run(ctx); err != nil {
			return fmt.Errorf("qemu-img %s: %w", args[0], err)
		}
	}
	return nil
}

// maxDisk bounds what a compressed disk may unpack to.
const maxDisk = 1 << 40

func unpackZstd(ctx context.Context, r io.Reader, raw string) (err error) {
	z, err := zstd.NewReader(r)
	if err != nil {
		return err
	}
	defer z.Close()
	out, err := os.Create(raw)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	size, err := disk.CopySparse(ctx, out, 0, io.LimitReader(z, maxDisk))
	if err != nil {
		return err
	}
	return out.Truncate(size)
}

// isCompressedDisk reports whether a zstd stream begins with a protective MBR.
func isCompressedDisk(f io.ReaderAt, head []byte) bool {
	if !bytes.HasPrefix(head, []byte(zstdMagic)) {
		return false
	}
	z, err := zstd.NewReader(io.NewSectionReader(f, 0, maxDisk), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return false
	}
	defer z.Close()
	first := make([]byte, 4096)
	n, _ := io.ReadFull(z, first)
	return detect(first[:n]) == KindDisk
}
