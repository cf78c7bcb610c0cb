package verity

import (
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
	chunkBlocks    = 256     // blocks that one goroutine hashes at a time: 1 MiB
	maxBlocks      = 1 << 40 // 4 PiB; keeps all products far from an overflow
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
// reads, with one buffer of 1 MiB for each processor. On error the file is left with whatever was written; the caller throws
// it away.
func Append(ctx context.Context, f *os.File, opts Options) (Result, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return Result{}, err
	}
	switch {
	case size == 0:
		return Result{}, fmt.Errorf("hash tree of %s: the file is empty", f.Name())
	case size > maxBlocks*BlockSize:
		return Result{}, fmt.Errorf("hash tree of %s: %d bytes are too many", f.Name(), size)
	case len(opts.Salt) > maxSalt:
		return Result{}, fmt.Errorf("hash tree of %s: a salt of %d bytes, the most is %d", f.Name(), len(opts.Salt), maxSalt)
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
	if r.Root, err = Root(f, r.Params); err != nil {
		return Result{}, fmt.Errorf("hash tree of %s: %w", f.Name(), err)
	}
	r.Size = r.Params.Size()
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
	return parallel(ctx, blocks, func(first int64, data []byte) error {
		if _, err := f.ReadAt(data, from+first*BlockSize); err != nil {
			return err
		}
		n := len(data) / BlockSize
		out := make([]byte, (n+hashesPerBlock-1)/hashesPerBlock*BlockSize)
		for i := range n {
			sum := hash(opts.Salt, data[i*BlockSize:(i+1)*BlockSize])
			copy(out[i*sha256.Size:], sum[:])
		}
		_, err := f.WriteAt(out, to+first/hashesPerBlock*BlockSize)
		return err
	}, opts.Progress)
}

// parallel calls work on every processor for chunks of blocks, each with a buffer of the chunk's size. It stops at the first
// error and returns that of the chunk nearest to the start of the file.
func parallel(ctx context.Context, blocks int64, work func(first int64, data []byte) error, progress func(done, total int64)) error {
	var (
		mu         sync.Mutex
		wg         sync.WaitGroup
		next, done int64
		failed     error
		failedAt   int64
	)
	take := func() (first, n int64) {
		mu.Lock()
		defer mu.Unlock()
		first = next
		n = min(chunkBlocks, blocks-first)
		if failed != nil || ctx.Err() != nil {
			n = 0
		}
		next += n
		return first, n
	}
	report := func(first, n int64, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			if failed == nil || first < failedAt {
				failed, failedAt = err, first
			}
			return
		}
		done += n
		if progress != nil {
			progress(done*BlockSize, blocks*BlockSize)
		}
	}
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			buf := make([]byte, min(chunkBlocks, blocks)*BlockSize)
			for first, n := take(); n > 0; first, n = take() {
				report(first, n, work(first, buf[:n*BlockSize]))
			}
		})
	}
	wg.Wait()
	if failed == nil {
		return ctx.Err()
	}
	return failed
}
