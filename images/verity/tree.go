package verity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
)

// BlockSize is the size of data and hash blocks, in bytes.
const BlockSize = 4096

const (
	hashesPerBlock = BlockSize / sha256.Size
	chunkBlocks    = 256 // blocks that one goroutine hashes at a time: 1 MiB
	maxLevels      = 8   // 128^8 blocks are far beyond any file
)

// Params describe a tree. They are what dm-verity is given beside the root.
type Params struct {
	DataBlocks int64
	HashOffset int64 // of the superblock, bytes; the tree starts one block later
	Salt       []byte
}

// Result is a tree that was made.
type Result struct {
	Params
	Root [sha256.Size]byte
	Size int64 // of the whole file, bytes
}

// Options for Append.
type Options struct {
	Salt     []byte                  // none by default: then the root is a function of the data alone
	Progress func(done, total int64) // bytes hashed; may be nil
}

// levels returns the number of blocks of each level of a tree over n data blocks, the one over the data first.
func levels(n int64) []int64 {
	var sizes []int64
	for n > 1 {
		n = (n + hashesPerBlock - 1) / hashesPerBlock
		sizes = append(sizes, n)
	}
	return sizes
}

// offsets returns where each level lies: the root's level comes first on disk.
func offsets(sizes []int64, start int64) []int64 {
	at := make([]int64, len(sizes))
	for i := len(sizes) - 1; i >= 0; i-- {
		at[i] = start
		start += sizes[i] * BlockSize
	}
	return at
}

// Append pads the data in f to a whole block and appends the superblock and the hash tree. It hashes in parallel while it
// reads. On error the file is left with whatever was written; the caller throws it away.
func Append(ctx context.Context, f *os.File, opts Options) (Result, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return Result{}, err
	}
	if size == 0 {
		return Result{}, fmt.Errorf("hash tree of %s: the file is empty", f.Name())
	}
	if pad := (BlockSize - size%BlockSize) % BlockSize; pad > 0 {
		if _, err := f.WriteAt(make([]byte, pad), size); err != nil {
			return Result{}, err
		}
		size += pad
	}
	r := Result{Params: Params{DataBlocks: size / BlockSize, HashOffset: size, Salt: opts.Salt}}
	sizes := levels(r.DataBlocks)
	at := offsets(sizes, size+BlockSize)
	blocks, from := r.DataBlocks, int64(0)
	for i, n := range sizes {
		if err := hashLevel(ctx, f, from, blocks, at[i], opts); err != nil {
			return Result{}, fmt.Errorf("hash tree of %s: %w", f.Name(), err)
		}
		blocks, from = n, at[i]
		opts.Progress = nil // only the data counts
	}
	top := make([]byte, BlockSize)
	if _, err := f.ReadAt(top, from); err != nil {
		return Result{}, err
	}
	r.Root = hash(opts.Salt, top)
	r.Size = size + BlockSize
	for _, n := range sizes {
		r.Size += n * BlockSize
	}
	_, err = f.WriteAt(superblock(r), r.HashOffset)
	return r, err
}

func hash(salt, block []byte) [sha256.Size]byte {
	if len(salt) == 0 {
		return sha256.Sum256(block)
	}
	h := sha256.New()
	h.Write(salt)
	h.Write(block)
	return [sha256.Size]byte(h.Sum(nil))
}

// hashLevel hashes the blocks at from and writes their hashes, padded to whole blocks, at to.
func hashLevel(ctx context.Context, f *os.File, from, blocks, to int64, opts Options) error {
	return parallel(ctx, blocks, func(first, n int64) error {
		data := make([]byte, n*BlockSize)
		if _, err := f.ReadAt(data, from+first*BlockSize); err != nil {
			return err
		}
		out := make([]byte, (n+hashesPerBlock-1)/hashesPerBlock*BlockSize)
		for i := range n {
			sum := hash(opts.Salt, data[i*BlockSize:(i+1)*BlockSize])
			copy(out[i*sha256.Size:], sum[:])
		}
		_, err := f.WriteAt(out, to+first/hashesPerBlock*BlockSize)
		return err
	}, opts.Progress)
}

// parallel calls work for chunks of blocks on every processor. It returns the error of the first chunk, in the order of the
// file, that failed.
func parallel(ctx context.Context, blocks int64, work func(first, n int64) error, progress func(done, total int64)) error {
	var (
		mu         sync.Mutex
		wg         sync.WaitGroup
		next, done int64
		failed     error
		failedAt   int64 = -1
	)
	for range runtime.GOMAXPROCS(0) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				mu.Lock()
				first := next
				n := min(chunkBlocks, blocks-first)
				if n <= 0 || failedAt >= 0 || ctx.Err() != nil {
					mu.Unlock()
					return
				}
				next += n
				mu.Unlock()
				err := work(first, n)
				mu.Lock()
				if err != nil && (failedAt < 0 || first < failedAt) {
					failed, failedAt = err, first
				}
				done += n
				if progress != nil && err == nil {
					progress(done*BlockSize, blocks*BlockSize)
				}
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	if failed == nil {
		return ctx.Err()
	}
	return failed
}

// CorruptError is a block that does not match its hash.
type CorruptError struct {
	Level  int   // 0 for data, 1 for the hashes of data blocks, and so on upwards
	Block  int64 // number within its level
	Offset int64 // in the file, bytes
}

func (e *CorruptError) Error() string {
	kind := "data block"
	if e.Level > 0 {
		kind = fmt.Sprintf("hash block of level %d, number", e.Level)
	}
	return fmt.Sprintf("%s %d (byte %d) does not match its hash", kind, e.Block, e.Offset)
}

// Verify checks each block of the tree from the root down and then each block of the data. It fails with a *CorruptError for
// the first that is wrong, levels nearer to the root before others.
func Verify(ctx context.Context, r io.ReaderAt, p Params, root [sha256.Size]byte, progress func(done, total int64)) error {
	if p.DataBlocks < 1 || p.HashOffset < p.DataBlocks*BlockSize {
		return fmt.Errorf("hash tree: %d data blocks with hashes at byte %d: out of bounds", p.DataBlocks, p.HashOffset)
	}
	sizes := levels(p.DataBlocks)
	if len(sizes) > maxLevels {
		return fmt.Errorf("hash tree: %d data blocks are too many", p.DataBlocks)
	}
	at := offsets(sizes, p.HashOffset+BlockSize)
	// Level l (from 1) lies at at[l-1]; what vouches for a block of level l is level l+1, and for the top the root.
	for l := len(sizes); l >= 0; l-- {
		blocks, from := p.DataBlocks, int64(0)
		if l > 0 {
			blocks, from = sizes[l-1], at[l-1]
		}
		var report func(done, total int64)
		if l == 0 {
			report = progress
		}
		err := parallel(ctx, blocks, func(first, n int64) error {
			data := make([]byte, n*BlockSize)
			if _, err := r.ReadAt(data, from+first*BlockSize); err != nil {
				return fmt.Errorf("read blocks at byte %d: %w", from+first*BlockSize, err)
			}
			want := root[:]
			if l < len(sizes) {
				want = make([]byte, n*sha256.Size)
				if _, err := r.ReadAt(want, at[l]+first*sha256.Size); err != nil {
					return fmt.Errorf("read hashes of level %d: %w", l+1, err)
				}
			}
			for i := range n {
				sum := hash(p.Salt, data[i*BlockSize:(i+1)*BlockSize])
				if !bytes.Equal(sum[:], want[i*sha256.Size:(i+1)*sha256.Size]) {
					return &CorruptError{l, first + i, from + (first+i)*BlockSize}
				}
			}
			return nil
		}, report)
		if err != nil {
			return err
		}
	}
	return nil
}
