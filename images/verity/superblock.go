package verity

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// SuperblockSize is the size of the superblock; it has a block of its own.
const SuperblockSize = 512

// maxSalt is the room that a superblock has for the salt.
const maxSalt = 256

// magic opens the superblock of veritysetup, see lib/verity/verity.c of cryptsetup for the layout.
var magic = [8]byte{'v', 'e', 'r', 'i', 't', 'y'}

// header is struct verity_sb, little-endian.
type header struct {
	Magic     [8]byte
	Version   uint32 // of the superblock: 1
	HashType  uint32 // 1: the salt comes before the block
	UUID      [16]byte
	Algorithm [32]byte
	DataBlock uint32
	HashBlock uint32
	Blocks    uint64
	SaltSize  uint16
	_         [6]byte
	Salt      [maxSalt]byte
	_         [168]byte
}

// Superblock is what a superblock says, none of it to be trusted.
type Superblock struct {
	UUID       [16]byte
	Algorithm  string
	DataBlocks int64
	Salt       []byte
}

// superblock returns the block that describes r. Its UUID is made of the root, so that the same data has the same bytes.
func superblock(r Result) []byte {
	h := header{Magic: magic, Version: 1, HashType: 1, DataBlock: BlockSize, HashBlock: BlockSize,
		Blocks: uint64(r.DataBlocks), SaltSize: uint16(len(r.Salt))}
	copy(h.UUID[:], r.Root[:])
	h.UUID[6] = h.UUID[6]&0x0f | 0x80 // RFC 9562, version 8: made of what we like
	h.UUID[8] = h.UUID[8]&0x3f | 0x80
	copy(h.Algorithm[:], "sha256")
	copy(h.Salt[:], r.Salt)
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, h) // a buffer takes everything
	return append(b.Bytes(), make([]byte, BlockSize-b.Len())...)
}

// ErrNoSuperblock means that there is no superblock at all.
var ErrNoSuperblock = errors.New("no dm-verity superblock")

// ParseSuperblock reads a superblock. It accepts what this package could check: SHA-256 and blocks of 4096 bytes.
func ParseSuperblock(b []byte) (Superblock, error) {
	var h header
	if len(b) < SuperblockSize {
		return Superblock{}, fmt.Errorf("dm-verity superblock of %d bytes, want %d: %w", len(b), SuperblockSize, ErrNoSuperblock)
	}
	if err := binary.Read(bytes.NewReader(b[:SuperblockSize]), binary.LittleEndian, &h); err != nil {
		return Superblock{}, err
	}
	s := Superblock{UUID: h.UUID, Algorithm: string(bytes.TrimRight(h.Algorithm[:], "\x00")), DataBlocks: int64(h.Blocks)}
	switch {
	case h.Magic != magic:
		return s, ErrNoSuperblock
	case h.Version != 1 || h.HashType != 1:
		return s, fmt.Errorf("dm-verity superblock of version %d, hash type %d; this veneer reads 1 and 1", h.Version, h.HashType)
	case s.Algorithm != "sha256":
		return s, fmt.Errorf("dm-verity superblock with algorithm %q; this veneer reads sha256", s.Algorithm)
	case h.DataBlock != BlockSize || h.HashBlock != BlockSize:
		return s, fmt.Errorf("dm-verity superblock with blocks of %d and %d bytes; this veneer reads %d", h.DataBlock, h.HashBlock, BlockSize)
	case h.Blocks == 0 || h.Blocks > maxBlocks:
		return s, fmt.Errorf("dm-verity superblock with %d data blocks", h.Blocks)
	case int(h.SaltSize) > len(h.Salt):
		return s, fmt.Errorf("dm-verity superblock with a salt of %d bytes, the most is %d", h.SaltSize, len(h.Salt))
	}
	s.Salt = bytes.Clone(h.Salt[:h.SaltSize])
	return s, nil
}
