package disk

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"veneer/initramfs/machine/probe"
	"veneer/stage"
)

// site is a device on which something is being made.
type site struct {
	*os.File
	size int64
}

// openSite opens a device that nobody uses and that holds nothing, marks it, and clears what the power cut left.
func openSite(device string) (*site, error) {
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	s := &site{File: f}
	if err := s.begin(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", device, err)
	}
	return s, nil
}

func (s *site) begin() (err error) {
	if s.size, err = s.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	b, err := probe.LookAt(s, s.size)
	if err != nil {
		return err
	}
	if !b.Empty {
		return fmt.Errorf("%w: %s; if nobody needs it, clear it: wipefs -a and dd if=/dev/zero bs=1M count=1", stage.ErrForeign, b.Reason)
	}
	if err := s.put(probe.Mark(s.size), s.size-probe.MarkSize); err != nil {
		return err
	}
	return s.put(make([]byte, probe.Reserved), 0)
}

// put writes bytes and waits until they are on the disk.
func (s *site) put(b []byte, at int64) error {
	if _, err := s.WriteAt(b, at); err != nil {
		return err
	}
	return s.Sync()
}

// done removes the mark: what was made counts from here on.
func (s *site) done() error { return s.put(make([]byte, probe.MarkSize), s.size-probe.MarkSize) }
