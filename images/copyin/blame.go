package copyin

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"os"

	"veneer/images/verity"
)

// Blame finds out what was wrong with a copy that ended in ErrWrong, where its source can be read a second time: what has arrived is
// held against the hash tree in the source. The error is a *verity.CorruptError, or says that the second time all was right. alive is
// called as it gets on.
func (c *Copy) Blame(ctx context.Context, source io.ReaderAt, alive func()) error {
	info, err := c.file.Stat()
	if err != nil {
		return err
	}
	v := c.image.Verity
	salt, serr := hex.DecodeString(v.Salt)
	root, rerr := hex.DecodeString(c.image.ID)
	if err := errors.Join(serr, rerr); err != nil {
		return err
	}
	p := verity.Params{DataBlocks: v.DataBlocks, HashOffset: v.HashOffset, Salt: salt}
	err = verity.Verify(ctx, joined{c.file, info.Size(), source}, p, [32]byte(root), func(int64, int64) { alive() })
	if err == nil {
		return errors.New("read a second time it is right: the medium, what reads it, or the memory fails")
	}
	return err
}

// joined reads the first bytes from one file and what follows from another.
type joined struct {
	first *os.File
	size  int64 // of first
	then  io.ReaderAt
}

func (j joined) ReadAt(b []byte, at int64) (int, error) {
	if at >= j.size {
		return j.then.ReadAt(b, at)
	}
	n := int(min(int64(len(b)), j.size-at))
	if got, err := j.first.ReadAt(b[:n], at); got < n {
		return got, err
	}
	if n == len(b) {
		return n, nil
	}
	more, err := j.then.ReadAt(b[n:], j.size)
	return n + more, err
}
