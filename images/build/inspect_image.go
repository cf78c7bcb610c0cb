package build

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strings"
	"time"

	"veneer/images"
	"veneer/images/verity"
)

// ImageFile is what an image file says of itself. None of it is proven: that is what Verify does.
type ImageFile struct {
	Size       int64      `json:"size"`
	FileSystem Superblock `json:"filesystem"`
	Verity     HashTree   `json:"verity"`
}

// Superblock is that of a read-only file system.
type Superblock struct {
	Type        string    `json:"type"`        // squashfs, erofs
	Used        int64     `json:"used"`        // bytes
	BlockSize   int64     `json:"block-size"`  // bytes
	Compression string    `json:"compression"` // as the tools of the file system name it
	Inodes      int64     `json:"inodes"`
	Made        time.Time `json:"made"`
}

// HashTree is the dm-verity superblock of an image, and the ID that the top of its tree stands for.
type HashTree struct {
	ID         string `json:"id"`
	UUID       string `json:"uuid"`
	DataBlocks int64  `json:"data-blocks"`
	HashOffset int64  `json:"hash-offset"`
	Salt       string `json:"salt"`
	Behind     int64  `json:"behind"` // bytes behind the end of the tree, which nothing covers
	params     verity.Params
	root       [32]byte
}

// ErrNotAnImage means that a file begins with the superblock of no file system that an image can have.
var ErrNotAnImage = errors.New("neither squashfs nor EROFS")

// erofsOffset is where the superblock of EROFS lies.
const erofsOffset = 1024

// ReadImage reads the superblocks of an image of size bytes. It reads three blocks at most.
func ReadImage(r io.ReaderAt, size int64) (ImageFile, error) {
	head := make([]byte, verity.BlockSize)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return ImageFile{}, err
	}
	img := ImageFile{Size: size}
	if img.FileSystem, err = parseFileSystem(head[:n]); err != nil {
		return img, err
	}
	if img.FileSystem.Used < 1 || img.FileSystem.Used > size {
		return img, fmt.Errorf("%s of %d bytes in a file of %d: the file is cut short, or damaged", img.FileSystem.Type, img.FileSystem.Used, size)
	}
	img.Verity, err = readHashTree(r, size, img.FileSystem.Used)
	return img, err
}

// readHashTree reads the superblock that follows used bytes of data, and the top of the tree.
func readHashTree(r io.ReaderAt, size, used int64) (HashTree, error) {
	// mksquashfs and mkfs.erofs pad to 4096 bytes themselves, unless they are told not to.
	offset := (used + verity.BlockSize - 1) / verity.BlockSize * verity.BlockSize
	block := make([]byte, verity.SuperblockSize)
	if _, err := r.ReadAt(block, offset); errors.Is(err, io.EOF) {
		return HashTree{}, fmt.Errorf("no hash tree behind the file system at byte %d: not an image that veneer built", offset)
	} else if err != nil {
		return HashTree{}, err
	}
	s, err := verity.ParseSuperblock(block)
	if err != nil {
		return HashTree{}, fmt.Errorf("hash tree at byte %d: %w", offset, err)
	}
	p := verity.Params{DataBlocks: s.DataBlocks, HashOffset: offset, Salt: s.Salt}
	if s.DataBlocks*verity.BlockSize != offset {
		return HashTree{}, fmt.Errorf("hash tree at byte %d: it covers %d bytes of data instead of those before it", offset, s.DataBlocks*verity.BlockSize)
	}
	t := HashTree{UUID: formatUUID(s.UUID), DataBlocks: s.DataBlocks, HashOffset: offset, Salt: hex.EncodeToString(s.Salt), Behind: size - p.Size(), params: p}
	if t.Behind < 0 {
		return t, fmt.Errorf("hash tree at byte %d: %d bytes of it are missing: the file is cut short", offset, -t.Behind)
	}
	if t.root, err = verity.Root(r, p); err != nil {
		return t, err
	}
	t.ID = hex.EncodeToString(t.root[:])
	return t, nil
}

func parseFileSystem(head []byte) (Superblock, error) {
	switch {
	case bytes.HasPrefix(head, []byte("hsqs")):
		return parseSquashfs(head)
	case len(head) >= erofsOffset+4 && binary.LittleEndian.Uint32(head[erofsOffset:]) == 0xe0f5e1e2:
		return parseEROFS(head[erofsOffset:])
	}
	return Superblock{}, ErrNotAnImage
}

// squashfsCompression is by number, as in the kernel's fs/squashfs/squashfs_fs.h.
var squashfsCompression = []string{1: "gzip", 2: "lzma", 3: "lzo", 4: "xz", 5: "lz4", 6: "zstd"}

func parseSquashfs(b []byte) (Superblock, error) {
	var s struct {
		Magic, Inodes, Made, BlockSize, Fragments                 uint32
		Compression, BlockLog, Flags, IDs, Major, Minor           uint16
		Root, Used, IDTable, Xattrs, InodeTable, DirTable, F, Exp uint64
	}
	if _, err := binary.Decode(b, binary.LittleEndian, &s); err != nil {
		return Superblock{}, errors.New("squashfs superblock is cut short")
	}
	switch {
	case s.Major != 4:
		return Superblock{}, fmt.Errorf("squashfs of version %d.%d; kernels mount 4.0", s.Major, s.Minor)
	case s.BlockSize < 4096 || s.BlockSize > 1<<20 || bits.OnesCount32(s.BlockSize) != 1 || bits.TrailingZeros32(s.BlockSize) != int(s.BlockLog):
		return Superblock{}, fmt.Errorf("squashfs with blocks of %d bytes", s.BlockSize)
	case int(s.Compression) >= len(squashfsCompression) || s.Compression == 0:
		return Superblock{}, fmt.Errorf("squashfs with unknown compression %d", s.Compression)
	case s.Used > 1<<60:
		return Superblock{}, fmt.Errorf("squashfs of %d bytes", s.Used)
	}
	return Superblock{Type: "squashfs", Used: int64(s.Used), BlockSize: int64(s.BlockSize), Compression: squashfsCompression[s.Compression],
		Inodes: int64(s.Inodes), Made: time.Unix(int64(s.Made), 0).UTC()}, nil
}

// erofsCompression is by bit, as in the kernel's fs/erofs/erofs_fs.h.
var erofsCompression = []string{"lz4", "lzma", "deflate", "zstd"}

func parseEROFS(b []byte) (Superblock, error) {
	var s struct {
		Magic, Checksum, Compatible           uint32
		BlockBits, Extra                      uint8
		Root                                  uint16
		Inodes, Made                          uint64
		MadeNsec, Blocks, Meta, SharedXattrs  uint32
		UUID, Label                           [16]byte
		Incompatible                          uint32
		Algorithms, ExtraDevices, DeviceSlots uint16
	}
	if _, err := binary.Decode(b, binary.LittleEndian, &s); err != nil {
		return Superblock{}, errors.New("EROFS superblock is cut short")
	}
	switch {
	case s.BlockBits < 9 || s.BlockBits > 16:
		return Superblock{}, fmt.Errorf("EROFS with blocks of 2^%d bytes", s.BlockBits)
	case s.Made > 1<<37: // the year 6325
		return Superblock{}, fmt.Errorf("EROFS made %d seconds after 1970", s.Made)
	case s.Inodes > 1<<60:
		return Superblock{}, fmt.Errorf("EROFS with %d inodes", s.Inodes)
	}
	const zeroPadding, configs = 1, 2 // incompatible features: lz4 as of old, and a list of algorithms
	var names []string
	if s.Incompatible&configs != 0 {
		for i, name := range erofsCompression {
			if s.Algorithms>>i&1 != 0 {
				names = append(names, name)
			}
		}
	} else if s.Incompatible&zeroPadding != 0 {
		names = []string{"lz4"}
	}
	if names == nil {
		names = []string{"none"}
	}
	return Superblock{Type: "erofs", Used: int64(s.Blocks) << s.BlockBits, BlockSize: 1 << s.BlockBits, Compression: strings.Join(names, ","),
		Inodes: int64(s.Inodes), Made: time.Unix(int64(s.Made), int64(s.MadeNsec)%1e9).UTC()}, nil
}

func formatUUID(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// CheckID reports whether the image file is the one that its name, if it is that of a store, says it is.
func (t HashTree) CheckID(name string) error {
	if id, ok := strings.CutSuffix(name, ".img"); ok && images.CheckID(id) == nil && id != t.ID {
		return fmt.Errorf("the file is named for the ID %s, its hash tree has %s", id, t.ID)
	}
	return nil
}
