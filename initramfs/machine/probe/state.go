package probe

import (
	"hash/crc32"
	"io"
)

// State is what a file system says of itself in its superblock.
type State struct {
	Size  int64  // bytes that it covers; 0 if that is not known
	Used  int    // per cent of the blocks that are taken; ext4 only, and as of the last time that it was written
	Dirty string // why it should be checked before it is mounted; "" if it need not be, be it that the kernel replays a log
}

// ReadState reads the superblock of a file system of that type, as Sniff calls it, on a device of size bytes.
func ReadState(r io.ReaderAt, size int64, fsType string) (State, error) {
	head, err := readHead(r, size)
	if err != nil {
		return State{}, err
	}
	switch fsType {
	case "ext4":
		return extState(head[1024:2048]), nil
	case "xfs":
		return xfsState(head), nil
	case "btrfs":
		return State{Size: product(le.Uint64(head[btrfsOffset+0x70:]), 1)}, nil
	case typeFAT:
		return fatState(head), nil
	case "exfat":
		if le.Uint16(head[106:])&2 != 0 {
			return State{Dirty: notUnmounted}, nil
		}
	}
	return State{}, nil
}

const notUnmounted = "it was not unmounted cleanly"

// extState reads the superblock of an ext file system, see Documentation/filesystems/ext4/super.rst.
func extState(b []byte) State {
	const (
		valid, errored              = 1, 2
		hasJournal, is64, checksums = 0x4, 0x80, 0x400
		checksumAt                  = 0x3fc
	)
	blocks, free := uint64(le.Uint32(b[4:])), uint64(le.Uint32(b[0xc:]))
	if le.Uint32(b[0x60:])&is64 != 0 {
		blocks |= uint64(le.Uint32(b[0x150:])) << 32
		free |= uint64(le.Uint32(b[0x158:])) << 32
	}
	s := State{Size: product(blocks, 1024<<min(le.Uint32(b[0x18:]), 6))}
	if blocks > 0 && free < blocks {
		s.Used = int(float64(blocks-free) / float64(blocks) * 100)
	}
	state := le.Uint16(b[0x3a:])
	switch {
	case le.Uint32(b[0x64:])&checksums != 0 && ^crc32.Checksum(b[:checksumAt], crc32.MakeTable(crc32.Castagnoli)) != le.Uint32(b[checksumAt:]):
		s.Dirty = "the checksum of its superblock is wrong"
	case state&errored != 0:
		s.Dirty = "the kernel found errors in it"
	case state&valid == 0 && le.Uint32(b[0x5c:])&hasJournal == 0:
		s.Dirty = notUnmounted + ", and it has no journal"
	}
	return s
}

func xfsState(b []byte) State {
	const needsRepair = 1 << 4 // an incompatible feature of version 5
	s := State{Size: product(be.Uint64(b[8:]), uint64(be.Uint32(b[4:])))}
	switch {
	case b[126] != 0:
		s.Dirty = "mkfs did not end"
	case be.Uint16(b[100:])&0xf == 5 && be.Uint32(b[216:])&needsRepair != 0:
		s.Dirty = "xfs_repair did not end"
	}
	return s
}

func fatState(b []byte) State {
	f, ok := parseFAT(b)
	if !ok {
		return State{}
	}
	at := 0x25
	if f.rootCluster != 0 {
		at = 0x41
	}
	if b[at]&1 != 0 {
		return State{Dirty: notUnmounted}
	}
	return State{}
}

// product is a times b as a number of bytes, the largest one if that is more.
func product(a, b uint64) int64 {
	const most = 1<<63 - 1
	if b != 0 && a > most/b {
		return most
	}
	return int64(a * b)
}
