package machine

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"veneer/initramfs/machine/probe"
	"veneer/stage"
)

// What makes a file system, or LUKS, on a device writes first a mark into its last MiB, and removes it when all is on the disk.
// mkfs never sees that MiB, so that the mark is there at each instant in between, whatever else is: a device with a mark holds
// nothing yet. A file system that covers the mark's place is not ours in the making, whatever its last block says.

const (
	reserved  = 1 << 20 // at the end of a device, out of mkfs's sight; and what is looked at of its beginning
	markSize  = 4096    // the largest sector
	markMagic = "veneer is making what this device holds\n"
)

// mark is the content of the last markSize bytes of a device of size bytes.
func mark(size int64) []byte {
	b := make([]byte, markSize)
	n := copy(b, markMagic)
	binary.LittleEndian.PutUint64(b[n:], uint64(size))
	binary.LittleEndian.PutUint32(b[n+8:], crc32.ChecksumIEEE(b[:n+8]))
	return b
}

// blank is what a look at a device comes to, for those who want to make something on it.
type blank struct {
	probe.Content
	empty  bool   // nothing, or what was being made when the power went
	reason string // why it is not empty
}

// look reads what a device of size bytes holds.
func lookAt(r io.ReaderAt, size int64) (blank, error) {
	if size < 4*reserved {
		return blank{reason: fmt.Sprintf("it has only %d KiB", size>>10)}, nil
	}
	c, serr := probe.Sniff(r, size)
	end := make([]byte, reserved)
	if _, err := r.ReadAt(end, size-reserved); err != nil {
		return blank{}, err
	}
	if string(end[reserved-markSize:]) == string(mark(size)) {
		st, err := probe.ReadState(r, size, c.Type)
		if err != nil {
			return blank{}, err
		}
		if st.Size <= size-reserved {
			return blank{empty: true}, nil
		}
	}
	switch {
	case serr != nil:
		return blank{reason: serr.Error()}, serr
	case c.Type != "":
		return blank{Content: c, reason: "it holds " + c.Type}, nil
	}
	head := make([]byte, reserved)
	if _, err := r.ReadAt(head, 0); err != nil {
		return blank{}, err
	}
	if !allZero(head) {
		return blank{reason: "its first MiB is neither empty nor anything known"}, nil
	}
	if where := remainder(end, size); where != "" {
		return blank{reason: where}, nil
	}
	return blank{empty: true}, nil
}

// remainder looks for what lives at the end of a device.
func remainder(end []byte, size int64) string {
	has := func(at int64, magic string) bool {
		at -= size - reserved
		return at >= 0 && at+int64(len(magic)) <= reserved && string(end[at:at+int64(len(magic))]) == magic
	}
	const raid = "\xfc\x4e\x2b\xa9" // md_p.h
	for _, sector := range []int64{512, 4096} {
		if has(size-sector, "EFI PART") {
			return "a partition table lies at its end"
		}
	}
	if has(size&^(64<<10-1)-64<<10, raid) || has((size-8<<10)&^4095, raid) {
		return "a part of a RAID lies at its end"
	}
	return ""
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// site is a device on which something is being made.
type site struct {
	*os.File
	size int64
}

// openSite opens a device that nobody uses and that holds nothing, marks it, and clears what the power cut left.
func openSite(device string) (*site, error) {
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	s := &site{File: f}
	if err := s.begin(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", device, err)
	}
	return s, nil
}

func (s *site) begin() (err error) {
	if s.size, err = s.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	b, err := lookAt(s, s.size)
	if err != nil {
		return err
	}
	if !b.empty {
		return fmt.Errorf("%w: %s; if nobody needs it, clear it: wipefs -a and dd if=/dev/zero bs=1M count=1", stage.ErrForeign, b.reason)
	}
	if err := s.put(mark(s.size), s.size-markSize); err != nil {
		return err
	}
	return s.put(make([]byte, reserved), 0)
}

// put writes bytes and waits until they are on the disk.
func (s *site) put(b []byte, at int64) error {
	if _, err := s.WriteAt(b, at); err != nil {
		return err
	}
	return s.Sync()
}

// done removes the mark: what was made counts from here on.
func (s *site) done() error { return s.put(make([]byte, markSize), s.size-markSize) }
