package device

import (
	"fmt"
	"io"
	"os"

	"veneer/initramfs/machine/probe"
)

// kept returns what has to be written over the image so that partitions which lie behind it stay: the table of the image, with their
// entries in it, for a disk of the target's size.
func (s Spec) kept() ([]probe.Write, error) {
	f, err := os.Open(s.Target.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := s.Target.Size
	if s.Target.File {
		if size, err = f.Seek(0, io.SeekEnd); err != nil {
			return nil, err
		}
	}
	old, err := probe.ReadGPT(f, size, max(s.Target.Sector, sectorSize))
	if err != nil {
		return nil, fmt.Errorf("--keep-state: %s: %w", s.Target.Path, err)
	}
	next, err := probe.ReadGPT(over{s.Image.Head(), f}, size, max(s.Target.Sector, sectorSize))
	if err != nil {
		return nil, fmt.Errorf("--keep-state: the image: %w", err)
	}
	n, err := next.Keep(old, s.Image.Size())
	if err != nil {
		return nil, fmt.Errorf("--keep-state: %s: %w", s.Target.Path, err)
	}
	if n == 0 {
		return nil, fmt.Errorf("--keep-state: %s holds no partition behind the first %d bytes, which the image takes: leave --keep-state out", s.Target.Path, s.Image.Size())
	}
	return next.Writes(), nil
}

// over is a device as it will be: its first bytes are others.
type over struct {
	head []byte
	io.ReaderAt
}

func (o over) ReadAt(p []byte, at int64) (int, error) {
	n, err := o.ReaderAt.ReadAt(p, at)
	if at < int64(len(o.head)) {
		copy(p, o.head[at:])
	}
	return n, err
}
