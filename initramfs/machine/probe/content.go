package probe

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Content is what a device holds. The zero Content means nothing that is known here.
type Content struct {
	Type  string // as mount(8) and blkid(8) name it: ext4, vfat, iso9660
	Label string
	UUID  string // as blkid(8) prints it
}

// headSize is what is read of the beginning of a device at once. It covers every superblock that is looked for but btrfs's
// second copy: ISO 9660 at 32 KiB and btrfs at 64 KiB are the farthest.
const headSize = 68 << 10

// sniffer recognises one kind of content.
type sniffer struct {
	kind  string
	sniff func(d device) (Content, bool)
}

// sniffers in the order of blkid: containers first.
var sniffers = []sniffer{
	{"LUKS", sniffLUKS}, {"squashfs", sniffSquashfs}, {"erofs", sniffEROFS}, {"ext4", sniffExt}, {"xfs", sniffXFS},
	{"btrfs", sniffBtrfs}, {"iso9660", sniffISO}, {"swap", sniffSwap}, {"ntfs", sniffNTFS}, {"exfat", sniffExFAT}, {"vfat", sniffFAT},
}

// ErrAmbiguous means that the device carries the marks of more than one file system, as when one was made over another.
var ErrAmbiguous = errors.New("ambiguous content")

// Sniff tells what the device r of size bytes holds. A device without anything known yields the zero Content; one that
// carries the marks of several file systems is refused with ErrAmbiguous.
func Sniff(r io.ReaderAt, size int64) (Content, error) {
	d, err := open(r, size)
	if err != nil {
		return Content{}, err
	}
	var found []Content
	for _, s := range sniffers {
		if c, ok := s.sniff(d); ok {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 0:
		return Content{}, nil
	case 1:
		return found[0], nil
	}
	kinds := make([]string, len(found))
	for i, c := range found {
		kinds[i] = c.Type
	}
	return Content{}, fmt.Errorf("%w: it looks like %s; wipe the remains with wipefs(8)", ErrAmbiguous, strings.Join(kinds, " and like "))
}

// device is the beginning of a device, and a way to the rest of it.
type device struct {
	head []byte
	r    io.ReaderAt
	size int64
}

func open(r io.ReaderAt, size int64) (device, error) {
	head := make([]byte, min(headSize, max(size, 0)))
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return device{}, fmt.Errorf("read %d bytes: %w", len(head), err)
	}
	return device{head[:n], r, size}, nil
}

// at returns n bytes at offset, or nil where the device ends before or cannot be read.
func (d device) at(offset, n int64) []byte {
	if offset < 0 || n <= 0 || n > headSize || offset > d.size-n {
		return nil
	}
	if offset+n <= int64(len(d.head)) {
		return d.head[offset : offset+n]
	}
	b := make([]byte, n)
	if _, err := d.r.ReadAt(b, offset); err != nil {
		return nil
	}
	return b
}

// is reports whether magic stands at offset.
func (d device) is(offset int64, magic string) bool {
	return string(d.at(offset, int64(len(magic)))) == magic
}

// text is a name of fixed length that ends at its first NUL.
func text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

// padded is a name of fixed length filled up with spaces.
func padded(b []byte) string { return strings.TrimRight(text(b), " ") }

// uuid prints 16 bytes the usual way; all zero is none.
func uuid(b []byte) string {
	if len(b) != 16 || strings.Trim(string(b), "\x00") == "" {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
