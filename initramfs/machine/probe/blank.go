package probe

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// What makes a file system, or LUKS, on a device writes first a mark into its last MiB, and removes it when all is on the disk.
// mkfs never sees that MiB, so that the mark is there at each instant in between, whatever else is: a device with a mark holds
// nothing yet. A file system that covers the mark's place is not ours in the making, whatever its last block says.

const (
	Reserved  = 1 << 20 // at the end of a device, out of mkfs's sight; and what is looked at of its beginning
	MarkSize  = 4096    // the largest sector
	markMagic = "veneer is making what this device holds\n"
)

// Mark is the content of the last MarkSize bytes of a device of size bytes.
func Mark(size int64) []byte {
	b := make([]byte, MarkSize)
	n := copy(b, markMagic)
	binary.LittleEndian.PutUint64(b[n:], uint64(size))
	binary.LittleEndian.PutUint32(b[n+8:], crc32.ChecksumIEEE(b[:n+8]))
	return b
}

// Blank is what a look at a device comes to, for those who want to make something on it.
type Blank struct {
	Content
	Empty  bool   // nothing, or what was being made when the power went
	Reason string // why it is not empty
}

// LookAt reads what a device of size bytes holds.
func LookAt(r io.ReaderAt, size int64) (Blank, error) {
	if size < 4*Reserved {
		return Blank{Reason: fmt.Sprintf("it has only %d KiB", size>>10)}, nil
	}
	c, serr := Sniff(r, size)
	end := make([]byte, Reserved)
	if _, err := r.ReadAt(end, size-Reserved); err != nil {
		return Blank{}, err
	}
	if string(end[Reserved-MarkSize:]) == string(Mark(size)) {
		st, err := ReadState(r, size, c.Type)
		if err != nil {
			return Blank{}, err
		}
		if st.Size <= size-Reserved {
			return Blank{Empty: true}, nil
		}
	}
	switch {
	case serr != nil:
		return Blank{Reason: serr.Error()}, serr
	case c.Type != "":
		return Blank{Content: c, Reason: "it holds " + c.Type}, nil
	}
	head := make([]byte, Reserved)
	if _, err := r.ReadAt(head, 0); err != nil {
		return Blank{}, err
	}
	if !allZero(head) {
		return Blank{Reason: "its first MiB is neither empty nor anything known"}, nil
	}
	if where := remainder(end, size); where != "" {
		return Blank{Reason: where}, nil
	}
	return Blank{Empty: true}, nil
}

// remainder looks for what lives at the end of a device.
func remainder(end []byte, size int64) string {
	has := func(at int64, magic string) bool {
		at -= size - Reserved
		return at >= 0 && at+int64(len(magic)) <= Reserved && string(end[at:at+int64(len(magic))]) == magic
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
