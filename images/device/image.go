package device

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// Image is what is written: a disk, or an ISO, of a size that is known before the first byte is read.
type Image interface {
	io.ReadCloser
	Size() int64
	Head() []byte               // its first bytes, headSize at most; reading begins with them all the same
	Stat() (os.FileInfo, error) // of the file that it is read from
}

// headSize is more than any partition table takes, and where partitions begin.
const headSize = 1 << 20

// plain is an image as it lies in a file.
type plain struct {
	*os.File
	size int64
	head []byte
}

func (p *plain) Size() int64  { return p.size }
func (p *plain) Head() []byte { return p.head }

// packed are forms of a disk that are not written as they are.
var packed = []struct{ magic, remedy string }{
	{"QFI\xfb", "qcow2: qemu-img convert -O raw %[1]s %[1]s.raw, and write that"},
	{"\x1f\x8b", "compressed (gzip): gunzip -k %[1]s, and write what comes of it"},
	{"\xfd7zXZ\x00", "compressed (xz): unxz -k %[1]s, and write what comes of it"},
}

// Open opens an image. It refuses one that is damaged or cut off, as far as its first MiB and its size tell.
func Open(path string) (Image, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file: name an image, such as out/disk.img", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	p := &plain{f, info.Size(), make([]byte, min(headSize, info.Size()))}
	if _, err := f.ReadAt(p.head, 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if bytes.HasPrefix(p.head, []byte(zstdMagic)) {
		u, err := openZstd(f, p.head)
		if err == nil && (u.size == 0 || u.size%sectorSize != 0) {
			err = fmt.Errorf("%s holds no image of a disk: its %d bytes are no whole number of sectors", path, u.size)
		}
		if err == nil {
			err = checkWhole(path, u.head, u.size)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return u, nil
	}
	for _, k := range packed {
		if bytes.HasPrefix(p.head, []byte(k.magic)) {
			return nil, errors.Join(fmt.Errorf("%s is "+k.remedy, path), f.Close())
		}
	}
	if p.size == 0 || p.size%sectorSize != 0 {
		return nil, errors.Join(fmt.Errorf("%s is no image of a disk: its %d bytes are no whole number of sectors", path, p.size), f.Close())
	}
	if err := checkWhole(path, p.head, p.size); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return p, nil
}

// checkFit reports why an image does not belong on a target.
func checkFit(head []byte, size int64, t Target) error {
	has := func(offset int, magic string) bool {
		return len(head) >= offset+len(magic) && string(head[offset:offset+len(magic)]) == magic
	}
	whole := has(510, "\x55\xaa") && (has(512, gptMagic) || has(4096, gptMagic) || has(32769, "CD001"))
	var errs []error
	switch {
	case whole && t.Disk != "":
		errs = append(errs, fmt.Errorf("%s is a partition of %s, and the image is a whole disk: write it to /dev/%s", t.Path, t.Disk, t.Disk))
	case !whole && t.Disk == "" && !t.File:
		errs = append(errs, errors.New("the image has no boot sector with a partition table, and no firmware would start it: name disk.img or disk.iso, or a partition with --partition"))
	}
	for _, sector := range []int{512, 4096} {
		if whole && has(sector, gptMagic) && !t.File && t.Sector != sector {
			errs = append(errs, fmt.Errorf("the image is for sectors of %d bytes, and %s has sectors of %d: no firmware would find its table there", sector, t.Path, t.Sector))
		}
	}
	if !t.File && size > t.Size {
		errs = append(errs, fmt.Errorf("the image has %d bytes, and %s %d: take a larger one", size, t.Path, t.Size))
	}
	return errors.Join(errs...)
}

const gptMagic = "EFI PART"
