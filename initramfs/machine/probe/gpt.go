package probe

import (
	"errors"
	"fmt"
	"hash/crc32"
	"unicode/utf16"
)

const (
	gptMagic    = "EFI PART"
	gptMinSize  = 92 // of the header, bytes
	gptMinEntry = 128
	// gptMaxTable bounds the table of entries; partitioning tools make one of 16 KiB.
	gptMaxTable = 1 << 20
	gptNameOff  = 56
)

// gpt reads the table behind a protective MBR.
func (d disk) gpt() ([]Partition, error) {
	parts, first := d.gptAt(1)
	if first == nil {
		return parts, nil
	}
	last := d.size/d.sector - 1
	parts, backup := d.gptAt(last)
	if backup == nil {
		return parts, nil
	}
	return nil, fmt.Errorf("GPT: %w: first: %w; backup: %w", ErrTable, first, backup)
}

// gptAt reads the table whose header is in sector lba. It believes nothing before the checksum is right.
func (d disk) gptAt(lba int64) ([]Partition, error) {
	if lba < 1 || (lba+1)*d.sector > d.size {
		return nil, errors.New("the disk is too short")
	}
	header := make([]byte, d.sector)
	if err := readAt(d.r, header, lba*d.sector); err != nil {
		return nil, err
	}
	if !has(header, 0, gptMagic) {
		return nil, errors.New("no header")
	}
	length := int64(le.Uint32(header[12:]))
	if length < gptMinSize || length > d.sector {
		return nil, fmt.Errorf("header of %d bytes", length)
	}
	sum := le.Uint32(header[16:])
	copy(header[16:20], make([]byte, 4)) // the checksum is made over a header in which it is zero
	if crc32.ChecksumIEEE(header[:length]) != sum {
		return nil, errors.New("checksum of the header is wrong")
	}
	if own := le.Uint64(header[24:]); own != uint64(lba) {
		return nil, fmt.Errorf("header in sector %d says that it is in sector %d", lba, own)
	}
	table, err := d.gptTable(header)
	if err != nil {
		return nil, err
	}
	entry := int(le.Uint32(header[84:]))
	var parts []Partition
	for n := 1; len(table) >= entry; n, table = n+1, table[entry:] {
		if p, ok := d.gptEntry(n, table[:entry]); ok {
			parts = append(parts, p)
		}
	}
	return parts, nil
}

// gptTable reads the entries that a header points to.
func (d disk) gptTable(header []byte) ([]byte, error) {
	start, count, entry := le.Uint64(header[72:]), uint64(le.Uint32(header[80:])), uint64(le.Uint32(header[84:]))
	if entry < gptMinEntry || entry > gptMaxTable || entry%8 != 0 {
		return nil, fmt.Errorf("entries of %d bytes", entry)
	}
	if count*entry > gptMaxTable {
		return nil, fmt.Errorf("%d entries", count)
	}
	sectors := uint64(d.size / d.sector)
	if start >= sectors || count*entry > (sectors-start)*uint64(d.sector) {
		return nil, fmt.Errorf("entries in sector %d lie behind the end of the disk", start)
	}
	table := make([]byte, count*entry)
	if err := readAt(d.r, table, int64(start)*d.sector); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(table) != le.Uint32(header[88:]) {
		return nil, errors.New("checksum of the entries is wrong")
	}
	return table, nil
}

func (d disk) gptEntry(number int, b []byte) (Partition, bool) {
	start, last := le.Uint64(b[32:]), le.Uint64(b[40:])
	if zero(b[:16]) || last < start || last-start+1 == 0 {
		return Partition{}, false
	}
	p, ok := d.place(number, start, last-start+1)
	p.UUID, p.Name = guid(b[16:]), gptName(b[gptNameOff:gptMinEntry])
	return p, ok
}

// guid spells a GUID, whose first three fields are little-endian; all zeros mean that there is none.
func guid(b []byte) string {
	return uuid([]byte{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]})
}

func gptName(b []byte) string {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		u := le.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return text([]byte(string(utf16.Decode(units))))
}
