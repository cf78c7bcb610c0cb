package probe

import (
	"errors"
	"fmt"
	"io"
)

// Partition is one entry of a partition table, numbered as the kernel numbers it.
type Partition struct {
	Number int
	Name   string // GPT only
	UUID   string // lower case; of an MBR entry the disk's ID and the number
	Start  int64  // bytes from the start of the disk
	Size   int64  // bytes
}

// ErrNoTable means that a disk has no partition table.
var ErrNoTable = errors.New("no partition table")

// ErrTable means that a disk has a partition table which cannot be believed.
var ErrTable = errors.New("partition table is damaged")

// Partitions reads the table of a disk of size bytes with logical sectors of sectorSize bytes: GPT, from its backup if the first
// is damaged, else MBR with its logical partitions. A disk without a table is ErrNoTable, a table that cannot be believed ErrTable.
//
// Entries that begin behind the end of the disk are left out and those that reach behind it are cut off, as the kernel does.
func Partitions(r io.ReaderAt, size int64, sectorSize int) ([]Partition, error) {
	if sectorSize < 512 || sectorSize > 64<<10 || !powerOfTwo(uint32(sectorSize)) {
		return nil, fmt.Errorf("partition table: a sector cannot have %d bytes", sectorSize)
	}
	d := disk{r, size, int64(sectorSize)}
	mbr := make([]byte, mbrSize)
	if size < mbrSize {
		return nil, ErrNoTable
	}
	if err := readAt(r, mbr, 0); err != nil {
		return nil, err
	}
	switch mbrKind(mbr) {
	case mbrProtective:
		return d.gpt()
	case mbrTable:
		return d.mbr(mbr)
	}
	return nil, ErrNoTable
}

// tableType names the partition table that a device begins with, as blkid's PTTYPE does.
func tableType(head []byte) string {
	switch mbrKind(head) {
	case mbrProtective:
		for sector := 512; sector <= 4096; sector <<= 1 {
			if has(head, sector, gptMagic) {
				return "gpt"
			}
		}
		return "dos"
	case mbrTable:
		return "dos"
	}
	return ""
}

// disk is where a table is read from.
type disk struct {
	r      io.ReaderAt
	size   int64
	sector int64
}

// place turns sectors into a partition, or tells that it lies behind the end of the disk.
func (d disk) place(number int, start, sectors uint64) (Partition, bool) {
	end := uint64(d.size / d.sector)
	if sectors == 0 || start >= end {
		return Partition{}, false
	}
	return Partition{Number: number, Start: int64(start) * d.sector, Size: int64(min(sectors, end-start)) * d.sector}, true
}
