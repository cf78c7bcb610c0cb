// Package copyin takes an image in from a source that nobody vouches for (a medium that will be taken away, a server), and
// verifies it while it arrives.
//
// It guarantees that a file which Finish accepted holds the image, every byte that dm-verity will ask for: its hash tree was made anew
// from the data, its root is the ID, and the tree in the file is that tree. The image is opened through dm-verity all the same.
package copyin

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"veneer/images"
	"veneer/images/verity"
)

// ErrWrong means that the bytes are not those of the image.
var ErrWrong = verity.ErrMismatch

// syncEvery is how much of a copy may be lost to a power cut, bytes.
const syncEvery = 4 << 20

// chunk is how much is read at a time.
const chunk = 1 << 20

// Copy is an image on its way into a file. It is an io.Writer for the next bytes of it.
type Copy struct {
	Durable  bool           // what has arrived is written to the disk every now and then, so that Resume finds it after a power cut
	Progress func(at int64) // after each write; may be nil
	file     *os.File       // its own end is the place to write at
	image    images.Image
	stream   *verity.Stream
	unsynced int64
}

// New prepares for copying img into file, which is empty, or holds the beginning of the same copy (see Resume).
func New(file *os.File, img images.Image) (*Copy, error) {
	c := &Copy{file: file, image: img}
	return c, c.restart()
}

func (c *Copy) restart() error {
	v := c.image.Verity
	root, err := hex.DecodeString(c.image.ID)
	if err != nil || len(root) != 32 {
		return fmt.Errorf("image %q is no ID", c.image.ID)
	}
	salt, err := hex.DecodeString(v.Salt)
	if err != nil || v.Algorithm != "sha256" || v.BlockSize != verity.BlockSize {
		return fmt.Errorf("image %s: hash tree with %s, blocks of %d bytes and salt %q cannot be checked here", c.image.ID, v.Algorithm, v.BlockSize, v.Salt)
	}
	p := verity.Params{DataBlocks: v.DataBlocks, HashOffset: v.HashOffset, Salt: salt}
	if c.stream, err = verity.NewStream(p, [32]byte(root)); err != nil {
		return fmt.Errorf("image %s: %w", c.image.ID, err)
	}
	if p.Size() != c.image.Size {
		return fmt.Errorf("image %s: with its hash tree it has %d bytes, and the manifest says %d", c.image.ID, p.Size(), c.image.Size)
	}
	return nil
}

// At is how many bytes have arrived.
func (c *Copy) At() int64 { return c.stream.At() }

// Image is what is copied.
func (c *Copy) Image() images.Image { return c.image }

// Resume takes in what the file holds already, and returns how much that is. What cannot be the beginning of the image is thrown
// away, and so is what a power cut may have left unwritten; whether the rest is its beginning, the end will tell.
func (c *Copy) Resume(ctx context.Context) (int64, error) {
	info, err := c.file.Stat()
	if err != nil || info.Size() == 0 {
		return 0, err
	}
	if info.Size() > c.image.Size {
		return 0, c.Restart()
	}
	if c.Durable {
		// After a power cut a file may have the length that it had, and holes where data had not been written out yet: what lies
		// behind the last sync that is certain counts for nothing.
		if err := c.file.Truncate(max(0, info.Size()-syncEvery-chunk)); err != nil {
			return 0, err
		}
	}
	if _, err := c.file.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	buf := make([]byte, chunk)
	for ctx.Err() == nil {
		n, err := c.file.Read(buf)
		if n > 0 {
			if _, err := c.stream.Write(buf[:n]); err != nil {
				return 0, c.Restart()
			}
			c.progress()
		}
		if errors.Is(err, io.EOF) {
			return c.At(), nil
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, ctx.Err()
}

// Restart throws away what has arrived.
func (c *Copy) Restart() error {
	_, err := c.file.Seek(0, io.SeekStart)
	return errors.Join(c.file.Truncate(0), err, c.restart())
}

// Write takes the next bytes. It fails with ErrWrong as soon as it is certain that they are not the image's.
func (c *Copy) Write(b []byte) (int, error) {
	if _, err := c.stream.Write(b); err != nil {
		return 0, c.wrong(err)
	}
	n, err := c.file.Write(b)
	if err != nil {
		return n, err
	}
	c.progress()
	if c.unsynced += int64(n); c.Durable && c.unsynced >= syncEvery {
		c.unsynced = 0
		return n, c.file.Sync()
	}
	return n, nil
}

func (c *Copy) progress() {
	if c.Progress != nil {
		c.Progress(c.At())
	}
}

// Finish reports whether all of the image has arrived and is right, and writes it out where it is to be durable.
func (c *Copy) Finish() error {
	if err := c.stream.Close(); err != nil {
		return c.wrong(err)
	}
	if c.Durable {
		return c.file.Sync()
	}
	return nil
}

func (c *Copy) wrong(err error) error { return fmt.Errorf("image %s: %w", c.image.ID, err) }

// From copies the rest of the image from r, which stands at At.
func (c *Copy) From(ctx context.Context, r io.Reader) error {
	buf := make([]byte, chunk)
	for c.At() < c.image.Size {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf[:min(int64(len(buf)), c.image.Size-c.At())])
		if n > 0 {
			if _, werr := c.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	return c.Finish()
}
