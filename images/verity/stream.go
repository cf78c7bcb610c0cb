package verity

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// ErrMismatch means that bytes do not hash to the root that they should.
var ErrMismatch = errors.New("the content does not match its hash")

// Stream checks a file while its bytes pass by, in order and once: the data must hash to the root, and the tree behind it must
// be the tree of the data. The superblock, which nothing of ours believes, and padding before it are not looked at.
//
// It holds 32 bytes of memory for each block of data. What was written is not right before Close has said so.
type Stream struct {
	p       Params
	root    [sha256.Size]byte
	size    int64
	at      int64
	partial []byte // of the block in progress
	hashes  []byte // of the data blocks that have passed
	tree    []byte // once all the data has passed
	err     error
}

// maxAtOnce is the number of blocks for whose hashes there is room from the beginning: 16 GiB of them.
const maxAtOnce = 1 << 22

// NewStream prepares for a file of p.Size() bytes.
func NewStream(p Params, root [sha256.Size]byte) (*Stream, error) {
	if p.DataBlocks < 1 || p.DataBlocks > maxBlocks || p.HashOffset < p.DataBlocks*BlockSize || p.HashOffset > maxBlocks*BlockSize || len(p.Salt) > maxSalt {
		return nil, fmt.Errorf("hash tree: number of data blocks %d, hashes at byte %d, salt of size %d: out of bounds", p.DataBlocks, p.HashOffset, len(p.Salt))
	}
	// At once where it is not outlandish: growing would take it twice.
	hashes := make([]byte, 0, min(p.DataBlocks, maxAtOnce)*sha256.Size)
	return &Stream{p: p, root: root, size: p.Size(), hashes: hashes}, nil
}

// At returns how many bytes have passed.
func (s *Stream) At() int64 { return s.at }

// Write takes the next bytes. It fails with ErrMismatch as soon as it is certain that the file is wrong, and from then on.
func (s *Stream) Write(b []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if int64(len(b)) > s.size-s.at {
		s.err = fmt.Errorf("%w: more than its %d bytes", ErrMismatch, s.size)
		return 0, s.err
	}
	n := len(b)
	data := s.p.DataBlocks * BlockSize
	if s.at < data {
		k := min(int64(len(b)), data-s.at)
		s.data(b[:k])
		s.at, b = s.at+k, b[k:]
		if s.at == data {
			if s.err = s.close(); s.err != nil {
				return 0, s.err
			}
		}
	}
	if begin := s.p.HashOffset + BlockSize; len(b) > 0 {
		skip := min(int64(len(b)), max(0, begin-s.at))
		s.at, b = s.at+skip, b[skip:]
		if !bytes.Equal(b, s.tree[max(0, s.at-begin):][:len(b)]) {
			s.err = fmt.Errorf("%w: hash tree, near byte %d", ErrMismatch, s.at)
			return 0, s.err
		}
		s.at += int64(len(b))
	}
	return n, nil
}

// data hashes what has come in whole blocks and keeps the rest.
func (s *Stream) data(b []byte) {
	if len(s.partial) > 0 {
		k := min(len(b), BlockSize-len(s.partial))
		s.partial, b = append(s.partial, b[:k]...), b[k:]
		if len(s.partial) < BlockSize {
			return
		}
		s.hashes = hashBlocks(s.hashes, s.p.Salt, s.partial)
		s.partial = s.partial[:0]
	}
	whole := len(b) / BlockSize * BlockSize
	s.hashes = hashBlocks(s.hashes, s.p.Salt, b[:whole])
	s.partial = append(s.partial, b[whole:]...)
}

// parallelFrom is the number of blocks from which on several processors are worth it.
const parallelFrom = 32

// hashBlocks appends the hash of each block to hashes.
func hashBlocks(hashes, salt, blocks []byte) []byte {
	n, from := len(blocks)/BlockSize, len(hashes)
	hashes = append(hashes, make([]byte, n*sha256.Size)...)
	out := hashes[from:]
	work := func(first, end int) {
		for i := first; i < end; i++ {
			sum := hash(salt, blocks[i*BlockSize:(i+1)*BlockSize])
			copy(out[i*sha256.Size:], sum[:])
		}
	}
	workers := runtime.GOMAXPROCS(0)
	if n < parallelFrom || workers == 1 {
		work(0, n)
		return hashes
	}
	var group sync.WaitGroup
	share := (n + workers - 1) / workers
	for first := 0; first < n; first += share {
		group.Go(func() { work(first, min(n, first+share)) })
	}
	group.Wait()
	return hashes
}

// close makes the tree of the data, and holds it against the root.
func (s *Stream) close() error {
	sizes := levels(s.p.DataBlocks)
	at := offsets(sizes, 0)
	s.tree = make([]byte, s.size-s.p.HashOffset-BlockSize)
	below := s.hashes
	s.hashes = nil
	top := below // of a single block the root is the hash
	for i := range sizes {
		level := s.tree[at[i]:][:sizes[i]*BlockSize]
		copy(level, below)
		below = hashBlocks(nil, s.p.Salt, level)
		top = below
	}
	if !bytes.Equal(top, s.root[:]) {
		s.tree = nil
		return fmt.Errorf("%w: the hash of its %d data blocks is %x, and should be %x", ErrMismatch, s.p.DataBlocks, top, s.root)
	}
	return nil
}

// Close reports whether all of the file has passed, and was right. A file that is cut short is io.ErrUnexpectedEOF.
func (s *Stream) Close() error {
	if s.err == nil && s.at < s.size {
		return fmt.Errorf("%d of %d bytes: %w", s.at, s.size, io.ErrUnexpectedEOF)
	}
	return s.err
}
