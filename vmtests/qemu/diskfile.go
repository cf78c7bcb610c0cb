package qemu

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// The formats of a disk that a VM may have.
const (
	formatRaw   = "raw"
	formatQcow2 = "qcow2"
)

// ErrNotADisk means that a file was named for a disk and plainly is something else. The caller has named the wrong file, or can
// give its format.
var ErrNotADisk = errors.New("not a disk")

// diskHead is the beginning of a file that is said to be a disk.
type diskHead struct {
	path  string
	bytes []byte
	size  int64 // 0 for a device
}

// isoVolume is where the first volume descriptor of an ISO 9660 file system lies (ECMA-119).
const isoVolume = 32 << 10

// magics tell what a file is that is no disk, or a disk that has to be converted.
var magics = []struct {
	offset int
	magic  string
	is     string
}{
	{0, "!<arch>\n", "a package or an archive (ar)"},
	{0, "\xed\xab\xee\xdb", "a package (rpm)"},
	{0, "\x1f\x8b", "compressed (gzip): unpack it"},
	{0, "\xfd7zXZ\x00", "compressed (xz): unpack it"},
	{0, "\x28\xb5\x2f\xfd", "compressed (zstd): unpack it"},
	{0, "BZh", "compressed (bzip2): unpack it"},
	{0, "PK\x03\x04", "an archive (zip)"},
	{257, "ustar", "an archive (tar)"},
	{0, "0707", "an archive (cpio)"},
	{0, "\x7fELF", "a program (ELF)"},
	{0x202, "HdrS", "a kernel"},
	{0, "#!", "a script"},
	{0, "{", "a text"},
	{0, "KDMV", "a VMware disk: convert it with qemu-img convert -O qcow2"},
	{0, "conectix", "a VHD disk: convert it with qemu-img convert -O qcow2"},
	{0, "vhdxfile", "a VHDX disk: convert it with qemu-img convert -O qcow2"},
	{0, "<<< ", "a VirtualBox disk: convert it with qemu-img convert -O qcow2"},
}

// readHead reads the beginning of a file or a block device.
func readHead(path string) (diskHead, error) {
	info, err := os.Stat(path)
	if err != nil {
		return diskHead{}, err
	}
	device := info.Mode().Type() == fs.ModeDevice
	if !device && !info.Mode().IsRegular() {
		return diskHead{}, fmt.Errorf("%s is %w: neither a file nor a block device", path, ErrNotADisk) // opening a pipe would block
	}
	f, err := os.Open(path)
	if err != nil {
		return diskHead{}, err
	}
	defer f.Close()
	h := diskHead{path: path, bytes: make([]byte, isoVolume+8)}
	if !device {
		h.size = info.Size()
		if h.size == 0 {
			return diskHead{}, fmt.Errorf("%s is %w: it is empty", path, ErrNotADisk)
		}
	}
	n, err := io.ReadFull(f, h.bytes)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return diskHead{}, err
	}
	h.bytes = h.bytes[:n]
	return h, nil
}

func (h diskHead) has(offset int, magic string) bool {
	return len(h.bytes) >= offset+len(magic) && string(h.bytes[offset:offset+len(magic)]) == magic
}

// bootable claims that a firmware could find something to boot: the signature of a boot sector, or an ISO 9660 file system.
func (h diskHead) bootable() bool { return h.has(510, "\x55\xaa") || h.has(isoVolume+1, "CD001") }

// sector is the size of the sectors that a raw disk's partition table is made for; 0 for the usual.
func (h diskHead) sector() int {
	const magic, large = "EFI PART", 4096
	if h.has(large, magic) && !h.has(512, magic) {
		return large
	}
	return 0
}

// format tells qcow2 from raw by the magic number, which is all that QEMU itself would look at, and refuses what is plainly
// no disk: QEMU would boot a package, and the guest see noise.
func (h diskHead) format() (string, error) {
	if h.has(0, "QFI\xfb") {
		return formatQcow2, nil
	}
	for _, m := range magics {
		// A disk image may begin with anything, and has a boot sector then; so does a kernel.
		if h.has(m.offset, m.magic) && (m.offset > 0 || !h.bootable()) {
			return "", fmt.Errorf("%s is %w but %s", h.path, ErrNotADisk, m.is)
		}
	}
	if h.size%512 != 0 {
		return "", fmt.Errorf("%s is %w: its %d bytes are no whole number of sectors of 512", h.path, ErrNotADisk, h.size)
	}
	return formatRaw, nil
}

// checkBoot reports why no firmware would boot from a raw disk.
func (h diskHead) checkBoot() error {
	if h.bootable() {
		return nil
	}
	for _, fs := range []struct {
		offset int
		magic  string
	}{{1080, "\x53\xef"}, {0, "hsqs"}, {0, "XFSB"}, {1024, "\xe2\xe1\xf5\xe0"}} {
		if h.has(fs.offset, fs.magic) {
			return fmt.Errorf("%s is %w to boot from but a bare file system: name the output of veneer build, or attach it with --disk", h.path, ErrNotADisk)
		}
	}
	return fmt.Errorf("%s is %w to boot from, for it has no boot sector: name the output of veneer build, or attach it with --disk", h.path, ErrNotADisk)
}
