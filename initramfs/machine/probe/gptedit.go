package probe

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"unicode/utf16"
)

// ErrNoRoom means that the free room at the end of a disk is too small, or that its table is full.
var ErrNoRoom = errors.New("no room at the end of the disk")

// align is the unit of where partitions begin and end.
const align = 1 << 20

// GPT is a partition table that is going to be changed. Nothing is written: Writes says what to write.
//
// Bytes that it does not know, attributes and reserved fields, stay as they are.
type GPT struct {
	disk
	mbr     []byte // the sector 0
	header  []byte // of the first table, without regard to the place
	table   []byte // the entries
	primary [2][]byte
	backup  [2][]byte // header and entries at the end of the disk as they are now; nil where they are damaged
	at      int64     // LBA of the first entries
	spare   int64     // bytes that Add leaves free, where it can
}

// ReadGPT reads the table of a disk of size bytes with logical sectors of sectorSize bytes, to change it. It refuses with
// ErrTable what a change could make worse: an MBR, a hybrid one, a disk that is shorter than its table says, entries that overlap
// or lie outside. One of the two copies may be damaged, and the backup may lie where the disk ended before it was enlarged.
func ReadGPT(r io.ReaderAt, size int64, sectorSize int) (*GPT, error) {
	fail := func(err error) (*GPT, error) { return nil, fmt.Errorf("%w: %w", ErrTable, err) }
	if sectorSize < 512 || sectorSize > 4096 || !powerOfTwo(uint32(sectorSize)) {
		return fail(fmt.Errorf("a sector cannot have %d bytes", sectorSize))
	}
	g := &GPT{disk: disk{r, size, int64(sectorSize)}}
	g.mbr = make([]byte, sectorSize)
	if size < 64*int64(sectorSize) {
		return fail(errors.New("the disk is too short"))
	}
	if err := readAt(r, g.mbr, 0); err != nil {
		return nil, err
	}
	if !g.protective() {
		return fail(errors.New("it is not a GPT behind a protective MBR alone; only such a table is changed"))
	}
	var ferr, berr error
	g.primary, ferr = g.copyAt(1)
	g.backup, berr = g.copyAt(g.last())
	good := g.primary
	switch {
	case ferr == nil:
		g.at = int64(le.Uint64(good[0][72:]))
	case berr == nil:
		good, g.at = g.backup, 2 // where every tool puts the first entries
	default:
		return fail(fmt.Errorf("first: %w; backup: %w", ferr, berr))
	}
	g.header, g.table = slices.Clone(good[0]), slices.Clone(good[1])
	if err := g.check(); err != nil {
		return nil, err
	}
	return g, nil
}

func (g *GPT) last() int64 { return g.size/g.sector - 1 }

// protective reports whether the MBR holds one entry, which covers the disk for those that know no GPT.
func (g *GPT) protective() bool {
	if mbrKind(g.mbr) != mbrProtective {
		return false
	}
	n := 0
	for _, e := range entries(g.mbr) {
		if e.id != 0 {
			n++
		}
	}
	return n == 1
}

// copyAt returns header and entries of the copy whose header is in sector lba, if their checksums are right.
func (g *GPT) copyAt(lba int64) ([2][]byte, error) {
	if _, err := g.gptAt(lba); err != nil {
		return [2][]byte{}, err
	}
	header := make([]byte, g.sector)
	if err := readAt(g.r, header, lba*g.sector); err != nil {
		return [2][]byte{}, err
	}
	table, err := g.gptTable(header)
	if err != nil {
		return [2][]byte{}, err
	}
	return [2][]byte{header, table}, nil
}

// check refuses a table that does not make sense on this disk.
func (g *GPT) check() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w", ErrTable, fmt.Errorf(format, args...))
	}
	first, last := le.Uint64(g.header[40:]), le.Uint64(g.header[48:])
	size := g.tableSectors()
	switch {
	case last > g.end():
		return fail("partitions may reach to sector %d, and the disk ends at %d: is this a copy of a larger disk?", last, g.last())
	case first > last || first < uint64(g.at+size) || g.at < 2:
		return fail("the room for partitions, sectors %d to %d, covers the table itself", first, last)
	}
	for n := range g.count() {
		start, end, used := g.span(n)
		if used && (start < first || end < start || end > last) {
			return fail("partition %d, sectors %d to %d, lies outside", n+1, start, end)
		}
		for o := range n {
			if s, e, taken := g.span(o); used && taken && start <= e && s <= end {
				return fail("partitions %d and %d overlap", o+1, n+1)
			}
		}
	}
	return nil
}

func (g *GPT) entrySize() int      { return int(le.Uint32(g.header[84:])) }
func (g *GPT) count() int          { return len(g.table) / g.entrySize() }
func (g *GPT) entry(n int) []byte  { return g.table[n*g.entrySize():][:g.entrySize()] }
func (g *GPT) tableSectors() int64 { return (int64(len(g.table)) + g.sector - 1) / g.sector }

// span returns the first and the last sector of entry n, and whether it is a partition.
func (g *GPT) span(n int) (start, end uint64, used bool) {
	e := g.entry(n)
	return le.Uint64(e[32:]), le.Uint64(e[40:]), !zero(e[:16])
}

// end is the last sector that a partition may use, on the disk as it is now.
func (g *GPT) end() uint64 { return uint64(g.last() - g.tableSectors() - 1) }

// tail is the last sector that is in use, and the number of that partition, -1 for none.
func (g *GPT) tail() (last uint64, n int) {
	n, last = -1, le.Uint64(g.header[40:])-1
	for i := range g.count() {
		if e := g.entry(i); !zero(e[:16]) && le.Uint64(e[40:]) > last {
			last, n = le.Uint64(e[40:]), i
		}
	}
	return last, n
}

// Find returns the partition of a name, and its type; two of one name are refused.
func (g *GPT) Find(name string) (p Partition, kind string, found bool, err error) {
	for n := range g.count() {
		e := g.entry(n)
		if zero(e[:16]) || gptName(e[gptNameOff:gptMinEntry]) != name {
			continue
		}
		if found {
			return p, kind, false, fmt.Errorf("%w: two partitions are named %q", ErrTable, name)
		}
		p, found = g.gptEntry(n+1, e)
		kind = guid(e)
	}
	return p, kind, found, nil
}

// spareLeast is what has to be left for a partition, or Spare is not heeded.
const spareLeast = 32 << 20

// Spare asks Add to leave bytes free before the partition that it makes.
func (g *GPT) Spare(bytes int64) { g.spare = bytes }

// Used is how many bytes of the disk the partitions and what lies before them take.
func (g *GPT) Used() int64 {
	last, _ := g.tail()
	return int64(last+1) * g.sector
}

// Add puts a partition behind all others: name, type, and a UUID of 16 random bytes; size in bytes, 0 for all the room, rounded
// up to a MiB. Room of less than min bytes is refused.
//
// Room that Spare was asked for stays free before it, if the rest has 32 MiB, and as much as is wanted.
func (g *GPT) Add(name, kind string, random [16]byte, size, least int64) (Partition, error) {
	typ, err := parseGUID(kind)
	if err != nil {
		return Partition{}, err
	}
	units := utf16.Encode([]rune(name))
	if len(units) == 0 || len(units) > (gptMinEntry-gptNameOff)/2 {
		return Partition{}, fmt.Errorf("partition name %q: want 1 to %d UTF-16 units", name, (gptMinEntry-gptNameOff)/2)
	}
	unit := uint64(align / g.sector)
	used, _ := g.tail()
	start := (used + unit) / unit * unit
	end := (g.end() + 1) / unit * unit // behind the last sector
	want := (size + align - 1) / align * align
	if spare := (uint64(g.spare/g.sector) + unit - 1) / unit * unit; start+spare < end && int64(end-start-spare)*g.sector >= max(want, least, spareLeast) {
		start += spare
	}
	room := int64(0)
	if end > start {
		room = int64(end-start) * g.sector
	}
	if want > 0 {
		end = start + uint64(want/g.sector)
	}
	if need := max(want, least, align); room < need {
		return Partition{}, fmt.Errorf("%w: %d MiB are free, %d are wanted", ErrNoRoom, room>>20, (need+align-1)>>20)
	}
	slot := -1
	for n := range g.count() {
		if zero(g.entry(n)[:16]) {
			slot = n
			break
		}
	}
	if slot < 0 {
		return Partition{}, fmt.Errorf("%w: all %d entries of its table are taken", ErrNoRoom, g.count())
	}
	random[6], random[8] = random[6]&0x0f|0x40, random[8]&0x3f|0x80 // version 4, see RFC 9562
	e := g.entry(slot)
	clear(e)
	copy(e, typ[:])
	id := swapGUID(random)
	copy(e[16:], id[:])
	le.PutUint64(e[32:], start)
	le.PutUint64(e[40:], end-1)
	for i, u := range units {
		le.PutUint16(e[gptNameOff+2*i:], u)
	}
	le.PutUint64(g.header[48:], g.end())
	p, _ := g.gptEntry(slot+1, e)
	return p, nil
}

// Grow makes a partition reach to the end of the disk. One with another behind it stays; grew tells.
func (g *GPT) Grow(number int) (p Partition, grew bool, err error) {
	if number < 1 || number > g.count() || zero(g.entry(number - 1)[:16]) {
		return p, false, fmt.Errorf("%w: no partition %d", ErrTable, number)
	}
	e := g.entry(number - 1)
	unit := uint64(align / g.sector)
	end := (g.end() + 1) / unit * unit
	if _, n := g.tail(); n == number-1 && end > le.Uint64(e[40:])+1 && end-le.Uint64(e[40:])-1 >= unit {
		le.PutUint64(e[40:], end-1)
		le.PutUint64(g.header[48:], g.end())
		grew = true
	}
	p, _ = g.gptEntry(number, e)
	return p, grew, nil
}

// Write is bytes for a place on a disk.
type Write struct {
	Offset int64
	Data   []byte
}

// Writes returns what makes the disk hold the table, in the order that survives a power cut if each is on the disk before the
// next begins: the backup at the true end of the disk, then the first copy, in each the entries before the header that vouches
// for them. At every instant one of the two is whole, the first has precedence, and both are old or new. What is right already is
// not written; a damaged copy is.
func (g *GPT) Writes() []Write {
	last, size := g.last(), g.tableSectors()
	padded := make([]byte, size*g.sector)
	copy(padded, g.table)
	var ws []Write
	put := func(now [2][]byte, own, other, at int64) {
		h := slices.Clone(g.header)
		le.PutUint64(h[24:], uint64(own))
		le.PutUint64(h[32:], uint64(other))
		le.PutUint64(h[72:], uint64(at))
		le.PutUint32(h[88:], crc32.ChecksumIEEE(g.table))
		clear(h[16:20])
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:le.Uint32(h[12:])]))
		if bytes.Equal(now[0], h) && bytes.Equal(now[1], g.table) {
			return
		}
		ws = append(ws, Write{at * g.sector, padded}, Write{own * g.sector, h})
	}
	put(g.backup, last, 1, last-size)
	put(g.primary, 1, last, g.at)
	mbr := slices.Clone(g.mbr)
	for i, e := range entries(mbr) {
		if e.id == 0xee {
			le.PutUint32(mbr[mbrEntries+i*mbrEntry+12:], uint32(min(uint64(last+1)-e.start, 0xffffffff)))
		}
	}
	if !bytes.Equal(mbr, g.mbr) {
		ws = append(ws, Write{0, mbr})
	}
	return ws
}

// swapGUID turns bytes as they are spelled into those on the disk, and back.
func swapGUID(b [16]byte) [16]byte {
	return [16]byte{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]}
}

// parseGUID reads 32 hexadecimal digits, with or without dashes, into the bytes on the disk.
func parseGUID(s string) ([16]byte, error) {
	var b [16]byte
	n := 0
	for _, c := range []byte(s) {
		var v byte
		switch {
		case c == '-':
			continue
		case c >= '0' && c <= '9':
			v = c - '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			v = c | 0x20 - 'a' + 10
		default:
			n = 33
		}
		if n >= 32 {
			return b, fmt.Errorf("%q is not a GUID", s)
		}
		b[n/2] |= v << (4 * (1 - n%2))
		n++
	}
	if n != 32 {
		return b, fmt.Errorf("%q is not a GUID", s)
	}
	return swapGUID(b), nil
}
