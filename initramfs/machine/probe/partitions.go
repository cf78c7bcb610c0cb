package probe

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

// Partition is an entry of a partition table.
type Partition struct {
	Number      int
	Name        string // GPT only
	UUID        string // as the kernel names it: the GUID of the entry, or for MBR the disk's signature and the number
	Start, Size int64  // bytes
}

// Limits of a table.
const (
	maxEntries  = 1024
	maxLogical  = 60 // the kernel's own bound on the chain of logical partitions is of the same order
	entryBounds = 4096
)

// ErrNoTable means that there is no partition table.
var ErrNoTable = errors.New("no partition table")

// Partitions reads the partition table of the disk r of size bytes: GPT by its first header or, where that is damaged, by the
// one at the end of the disk; else MBR with its logical partitions. sector is the logical sector size.
func Partitions(r io.ReaderAt, size int64, sector int) ([]Partition, error) {
	if sector < 512 || sector > 4096 || sector&(sector-1) != 0 {
		return nil, fmt.Errorf("logical sectors of %d bytes", sector)
	}
	d := device{r: r, size: size}
	mbr := d.at(0, 512)
	if mbr == nil || mbr[510] != 0x55 || mbr[511] != 0xaa {
		return nil, ErrNoTable
	}
	const protective = 0xee
	for i := range 4 {
		if mbr[446+16*i+4] == protective {
			parts, err := gpt(d, int64(sector), 1)
			if err != nil {
				backup, berr := gpt(d, int64(sector), size/int64(sector)-1)
				if berr == nil {
					return backup, nil
				}
				return nil, errors.Join(err, fmt.Errorf("backup: %w", berr))
			}
			return parts, nil
		}
	}
	return dos(d, mbr, int64(sector)), nil
}

// gpt reads the table whose header lies in the given sector (UEFI specification, chapter 5).
func gpt(d device, sector, lba int64) ([]Partition, error) {
	h := d.at(lba*sector, 512)
	if h == nil || string(h[:8]) != "EFI PART" {
		return nil, fmt.Errorf("no GPT header in sector %d", lba)
	}
	length := le.Uint32(h[12:])
	if length < 92 || length > 512 {
		return nil, fmt.Errorf("GPT header of %d bytes", length)
	}
	sum := append([]byte(nil), h[:length]...)
	copy(sum[16:20], []byte{0, 0, 0, 0})
	if crc32.ChecksumIEEE(sum) != le.Uint32(h[16:]) {
		return nil, fmt.Errorf("GPT header in sector %d does not match its checksum", lba)
	}
	at, count, entry := le.Uint64(h[72:]), int64(le.Uint32(h[80:])), int64(le.Uint32(h[84:]))
	if count > maxEntries || entry < 128 || entry > entryBounds || at > uint64(d.size/sector) {
		return nil, fmt.Errorf("GPT of %d entries of %d bytes at sector %d: out of bounds", count, entry, at)
	}
	table := make([]byte, count*entry)
	if _, err := d.r.ReadAt(table, int64(at)*sector); err != nil {
		return nil, fmt.Errorf("read GPT entries: %w", err)
	}
	if crc32.ChecksumIEEE(table) != le.Uint32(h[88:]) {
		return nil, errors.New("GPT entries do not match their checksum")
	}
	var parts []Partition
	for i := range count {
		e := table[i*entry:]
		if strings.Trim(string(e[:16]), "\x00") == "" {
			continue
		}
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if last < first || last >= uint64(d.size/sector) {
			continue // the kernel leaves it out too
		}
		parts = append(parts, Partition{int(i) + 1, utf16le(e[56:128]), guid(e[16:32]), int64(first) * sector, int64(last-first+1) * sector})
	}
	return parts, nil
}

// guid prints a GUID, whose first three fields are little-endian.
func guid(b []byte) string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

// dos reads an MBR table and the chain of logical partitions behind its extended partition, numbered from 5.
func dos(d device, mbr []byte, sector int64) []Partition {
	signature := le.Uint32(mbr[440:])
	var parts []Partition
	add := func(number int, start, size int64) {
		if size > 0 && start <= d.size-size {
			parts = append(parts, Partition{Number: number, UUID: fmt.Sprintf("%08x-%02x", signature, number), Start: start, Size: size})
		}
	}
	entry := func(table []byte, i int) (kind byte, start, size int64) {
		e := table[446+16*i:]
		return e[4], int64(le.Uint32(e[8:])) * sector, int64(le.Uint32(e[12:])) * sector
	}
	extended := func(kind byte) bool { return kind == 0x05 || kind == 0x0f || kind == 0x85 }
	for i := range 4 {
		kind, start, size := entry(mbr, i)
		if kind == 0 {
			continue
		}
		add(i+1, start, size)
		if !extended(kind) {
			continue
		}
		for number, at := 5, start; number < 5+maxLogical; number++ {
			link := d.at(at, 512)
			if link == nil || link[510] != 0x55 || link[511] != 0xaa {
				break
			}
			if kind, from, length := entry(link, 0); kind != 0 && !extended(kind) {
				add(number, at+from, length)
			}
			kind, next, length := entry(link, 1)
			if !extended(kind) || length == 0 {
				break
			}
			at = start + next
		}
	}
	return parts
}
