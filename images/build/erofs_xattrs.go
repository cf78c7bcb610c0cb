package build

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sys/unix"
)

// imageFile is what an EROFS image is changed through.
type imageFile interface {
	io.ReaderAt
	io.WriterAt
}

// erofsSorter puts the extended attributes of each file of an EROFS image in order. mkfs.erofs writes them in that in which it
// was told of them, and every file system, and fakeroot, has an order of its own: an image would depend on where its tree was.
type erofsSorter struct {
	f     imageFile
	block int64 // bytes
	meta  int64 // where inodes are counted from
	seen  map[uint64]bool
}

// Places in the superblock and in an inode, and layouts of data, see fs/erofs/erofs_fs.h.
const (
	erofsBlockBits  = erofsOffset + 12
	erofsRoot       = erofsOffset + 14
	erofsMetaBlock  = erofsOffset + 40
	erofsSlot       = 32 // the unit in which inodes are counted
	erofsFlatPlain  = 0
	erofsFlatInline = 2
	erofsMaxDir     = 1 << 30
)

func sortErofsXattrs(f imageFile) error {
	b := make([]byte, erofsBlock)
	if _, err := f.ReadAt(b, 0); err != nil {
		return err
	}
	le := binary.LittleEndian
	s := erofsSorter{f: f, block: 1 << (b[erofsBlockBits] & 31), seen: map[uint64]bool{}}
	s.meta = int64(le.Uint32(b[erofsMetaBlock:])) * s.block
	return s.walk(uint64(le.Uint16(b[erofsRoot:])))
}

// erofsInode is what it takes to find the attributes of a file and the entries of a directory.
type erofsInode struct {
	mode   uint16
	layout uint16
	size   int64
	data   int64 // where it starts, without the tail of an inline layout
	xattrs int64 // where they are
	length int64 // of the xattrs
}

func (s *erofsSorter) inode(nid uint64) (erofsInode, error) {
	at := s.meta + int64(nid)*erofsSlot
	b := make([]byte, erofsSlot)
	if _, err := s.f.ReadAt(b, at); err != nil {
		return erofsInode{}, fmt.Errorf("inode %d: %w", nid, err)
	}
	le := binary.LittleEndian
	format := le.Uint16(b)
	i := erofsInode{mode: le.Uint16(b[4:]), layout: format >> 1 & 7, data: int64(le.Uint32(b[16:])) * s.block}
	if format&1 == 0 {
		i.size, i.xattrs = int64(le.Uint32(b[8:])), at+erofsSlot
	} else {
		i.size, i.xattrs = int64(le.Uint64(b[8:])), at+2*erofsSlot
	}
	if count := le.Uint16(b[2:]); count > 0 {
		i.length = 12 + 4*(int64(count)-1)
	}
	return i, nil
}

// walk sorts the attributes of a file and, if it is a directory, of all that is in it.
func (s *erofsSorter) walk(nid uint64) error {
	if s.seen[nid] {
		return nil
	}
	s.seen[nid] = true
	i, err := s.inode(nid)
	if err != nil {
		return err
	}
	if i.length > 0 {
		if err := s.sort(i); err != nil {
			return fmt.Errorf("extended attributes of inode %d: %w", nid, err)
		}
	}
	if i.mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	list, err := s.directory(i)
	if err != nil {
		return fmt.Errorf("directory %d: %w", nid, err)
	}
	for block := range slices.Chunk(list, int(s.block)) {
		const entry = 12 // the number of the file, the place of its name, its type
		if len(block) < entry {
			return fmt.Errorf("directory %d: a block of %d bytes", nid, len(block))
		}
		names := int(binary.LittleEndian.Uint16(block[8:])) // behind all entries
		for at := 0; at < min(names, len(block)-entry+1); at += entry {
			if err := s.walk(binary.LittleEndian.Uint64(block[at:])); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *erofsSorter) directory(i erofsInode) ([]byte, error) {
	if i.layout != erofsFlatPlain && i.layout != erofsFlatInline || i.size < 0 || i.size > erofsMaxDir {
		return nil, fmt.Errorf("its layout %d with %d bytes is not known", i.layout, i.size)
	}
	b := make([]byte, i.size)
	tail := i.size
	if i.layout == erofsFlatInline {
		tail -= i.size % s.block
	}
	if _, err := s.f.ReadAt(b[:tail], i.data); err != nil {
		return nil, err
	}
	_, err := s.f.ReadAt(b[tail:], i.xattrs+i.length)
	return b, err
}

// sort orders what stands behind an inode: the places of attributes that other files have too, and those of its own.
func (s *erofsSorter) sort(i erofsInode) error {
	b := make([]byte, i.length)
	if _, err := s.f.ReadAt(b, i.xattrs); err != nil {
		return err
	}
	const head, entryHead = 12, 4
	le := binary.LittleEndian
	shared := head + 4*int(b[4])
	if shared > len(b) {
		return fmt.Errorf("%d shared ones in %d bytes", b[4], len(b))
	}
	ids := slices.Collect(slices.Chunk(bytes.Clone(b[head:shared]), 4))
	slices.SortFunc(ids, func(x, y []byte) int { return cmp.Compare(le.Uint32(x), le.Uint32(y)) })
	var entries [][]byte
	for rest := bytes.Clone(b[shared:]); len(rest) > 0; {
		if len(rest) < entryHead {
			return fmt.Errorf("%d bytes are left", len(rest))
		}
		size := (entryHead + int(rest[0]) + int(le.Uint16(rest[2:])) + 3) &^ 3
		if size > len(rest) {
			return fmt.Errorf("one of %d bytes in %d", size, len(rest))
		}
		entries, rest = append(entries, rest[:size]), rest[size:]
	}
	slices.SortFunc(entries, func(x, y []byte) int {
		return cmp.Or(cmp.Compare(x[1], y[1]), bytes.Compare(x[entryHead:][:x[0]], y[entryHead:][:y[0]]))
	})
	sorted := slices.Concat(b[:head], slices.Concat(ids...), slices.Concat(entries...))
	if bytes.Equal(sorted, b) {
		return nil
	}
	_, err := s.f.WriteAt(sorted, i.xattrs)
	return err
}
