package verity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"sync"
)

// CorruptError names the first block that does not match its hash, and counts the others. Levels nearer to the root come
// first, for what they vouch for cannot be told right from wrong without them.
type CorruptError struct {
	Level    int   // 0 for data, 1 for the hashes of data blocks, and so on upwards
	Block    int64 // number within its level
	Offset   int64 // in the file, bytes
	BadHash  int64 // hash blocks that are wrong
	BadData  int64 // data blocks that do not match the hash that the file holds for them
	Together int64 // all blocks that were checked
}

func (e *CorruptError) Error() string {
	kind := "data block"
	if e.Level > 0 {
		kind = fmt.Sprintf("hash block of level %d, number", e.Level)
	}
	return fmt.Sprintf("%s %d (byte %d) does not match its hash; of %s, bad are %s and %s",
		kind, e.Block, e.Offset, count(e.Together, "block"), count(e.BadData, "data block"), count(e.BadHash, "hash block"))
}

func count(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// add counts a bad block. Blocks come from several goroutines in any order.
func (e *CorruptError) add(level int, block, offset int64) {
	if e.BadData+e.BadHash == 0 || level == e.Level && block < e.Block {
		e.Level, e.Block, e.Offset = level, block, offset
	}
	if level == 0 {
		e.BadData++
	} else {
		e.BadHash++
	}
}

// Verify checks each block of the tree from the root down and then each block of the data, all of them even after a bad one.
// It fails with a *CorruptError, or with the error of the first read that failed. Memory is bounded as in Append; p need not
// be trusted. Progress counts the bytes of data.
func Verify(ctx context.Context, r io.ReaderAt, p Params, root [sha256.Size]byte, progress func(done, total int64)) error {
	if p.DataBlocks < 1 || p.DataBlocks > maxBlocks || p.HashOffset < p.DataBlocks*BlockSize || p.HashOffset > maxBlocks*BlockSize || len(p.Salt) > maxSalt {
		return fmt.Errorf("hash tree: number of data blocks %d, hashes at byte %d, salt of size %d: out of bounds", p.DataBlocks, p.HashOffset, len(p.Salt))
	}
	v := verifier{r: r, salt: p.Salt, sizes: levels(p.DataBlocks)}
	v.at = offsets(v.sizes, p.HashOffset+BlockSize)
	v.found.Together = p.DataBlocks
	for level := len(v.sizes); level > 0; level-- {
		v.found.Together += v.sizes[level-1]
		if err := v.level(ctx, level, v.sizes[level-1], v.at[level-1], root, nil); err != nil {
			return err
		}
	}
	if err := v.level(ctx, 0, p.DataBlocks, 0, root, progress); err != nil {
		return err
	}
	if v.found.BadData+v.found.BadHash > 0 {
		return &v.found
	}
	return nil
}

type verifier struct {
	r     io.ReaderAt
	salt  []byte
	sizes []int64 // blocks of each level of the tree, the one over the data first
	at    []int64 // where each of them lies
	mu    sync.Mutex
	found CorruptError
}

// level checks the blocks of one level, which begin at from, against the level above or, at the top, against the root.
func (v *verifier) level(ctx context.Context, level int, blocks, from int64, root [sha256.Size]byte, progress func(done, total int64)) error {
	return parallel(ctx, blocks, func(first int64, data []byte) error {
		if _, err := v.r.ReadAt(data, from+first*BlockSize); err != nil {
			return fmt.Errorf("read blocks at byte %d: %w", from+first*BlockSize, err)
		}
		n := len(data) / BlockSize
		want := root[:]
		if level < len(v.sizes) {
			want = make([]byte, n*sha256.Size)
			if _, err := v.r.ReadAt(want, v.at[level]+first*sha256.Size); err != nil {
				return fmt.Errorf("read hashes of level %d: %w", level+1, err)
			}
		}
		for i := range n {
			sum := hash(v.salt, data[i*BlockSize:(i+1)*BlockSize])
			if !bytes.Equal(sum[:], want[i*sha256.Size:(i+1)*sha256.Size]) {
				block := first + int64(i)
				v.mu.Lock()
				v.found.add(level, block, from+block*BlockSize)
				v.mu.Unlock()
			}
		}
		return nil
	}, progress)
}

// Root returns the root hash that the stored tree claims, which is the hash of its topmost block. It reads that block only
// and proves nothing about the rest.
func Root(r io.ReaderAt, p Params) ([sha256.Size]byte, error) {
	if p.DataBlocks < 1 || p.DataBlocks > maxBlocks || p.HashOffset < p.DataBlocks*BlockSize || p.HashOffset > maxBlocks*BlockSize {
		return [sha256.Size]byte{}, fmt.Errorf("hash tree: number of data blocks %d, hashes at byte %d: out of bounds", p.DataBlocks, p.HashOffset)
	}
	top := make([]byte, BlockSize)
	at := p.HashOffset + BlockSize // the topmost level comes first
	if p.DataBlocks == 1 {
		at = 0 // no tree: the root is the hash of the data
	}
	if _, err := r.ReadAt(top, at); err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("read the top of the hash tree at byte %d: %w", at, err)
	}
	return hash(p.Salt, top), nil
}

// Size returns the size of a file that ends with its hash tree.
func (p Params) Size() int64 {
	size := p.HashOffset + BlockSize
	for _, n := range levels(p.DataBlocks) {
		size += n * BlockSize
	}
	return size
}
