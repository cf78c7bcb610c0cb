package probe

import "fmt"

const (
	mbrSize    = 512
	mbrEntries = 446
	mbrEntry   = 16

	// maxLogical bounds the chain of logical partitions, each of which costs a read; the kernel has names for 255 in all.
	maxLogical = 128
	// firstLogical is the number of the first partition in the extended one, even if fewer than four precede it.
	firstLogical = 5
)

// kind is what the first sector of a disk is to the reader of partition tables.
type kind int

const (
	mbrNone       kind = iota
	mbrTable           // has partitions of its own
	mbrProtective      // stands before a GPT
)

// entry is one of the four in a sector of an MBR table.
type entry struct {
	flag, id       byte
	start, sectors uint64
}

func entries(sector []byte) [4]entry {
	var es [4]entry
	for i := range es {
		b := sector[mbrEntries+i*mbrEntry:]
		es[i] = entry{b[0], b[4], uint64(le.Uint32(b[8:])), uint64(le.Uint32(b[12:]))}
	}
	return es
}

func (e entry) extended() bool { return e.id == 0x05 || e.id == 0x0f || e.id == 0x85 }

// mbrKind tells a table from the boot sector of a file system, which bears the same signature.
func mbrKind(sector []byte) kind {
	if !has(sector, 510, "\x55\xaa") {
		return mbrNone
	}
	if _, ok := parseFAT(sector); ok || has(sector, 3, "NTFS    ") || has(sector, 3, "EXFAT   ") {
		return mbrNone
	}
	found := mbrNone
	for _, e := range entries(sector) {
		switch {
		case e.flag != 0 && e.flag != 0x80:
			return mbrNone
		case e.id == 0xee:
			return mbrProtective
		case e.id != 0 && e.sectors > 0:
			found = mbrTable
		}
	}
	return found
}

func (d disk) mbr(sector []byte) ([]Partition, error) {
	id := le.Uint32(sector[440:])
	var parts []Partition
	var extended []entry
	for i, e := range entries(sector) {
		if e.id == 0 {
			continue
		}
		if p, ok := d.place(i+1, e.start, e.sectors); ok {
			parts = append(parts, p.of(id))
		}
		if e.extended() {
			extended = append(extended, e)
		}
	}
	number := firstLogical
	for _, e := range extended {
		logical, err := d.logical(e, number, id)
		if err != nil {
			return nil, err
		}
		parts = append(parts, logical...)
		number += len(logical)
	}
	return parts, nil
}

// logical follows the chain in an extended partition: in each sector of it one entry is a partition, relative to that sector,
// and one leads to the next sector, relative to the extended partition.
func (d disk) logical(ext entry, number int, id uint32) ([]Partition, error) {
	var parts []Partition
	sector := make([]byte, mbrSize)
	at := ext.start
	for hops := 0; ; hops++ {
		if hops == maxLogical {
			return nil, fmt.Errorf("MBR: %w: more than %d logical partitions, or a chain that bites its tail", ErrTable, maxLogical)
		}
		if at >= uint64(d.size/d.sector) {
			return parts, nil
		}
		if err := readAt(d.r, sector, int64(at)*d.sector); err != nil {
			return nil, err
		}
		if !has(sector, 510, "\x55\xaa") {
			return parts, nil
		}
		next := uint64(0)
		for _, e := range entries(sector) {
			switch {
			case e.id == 0 || e.sectors == 0:
			case e.extended():
				if next == 0 {
					next = ext.start + e.start
				}
			default:
				if p, ok := d.place(number, at+e.start, e.sectors); ok {
					parts = append(parts, p.of(id))
					number++
				}
			}
		}
		if next == 0 {
			return parts, nil
		}
		at = next
	}
}

// of gives a partition the UUID that it has on the disk with that ID; a disk without an ID has none to give.
func (p Partition) of(id uint32) Partition {
	if id != 0 {
		p.UUID = fmt.Sprintf("%08x-%02x", id, p.Number)
	}
	return p
}
