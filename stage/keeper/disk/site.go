package disk

import (
	"bytes"
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
	size   int64
	marked bool                 // it bore the mark of a making, or a destruction, that was cut off
	before func(at int64) error // each write; nil: nothing
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
	mark := make([]byte, probe.MarkSize)
	if _, err := s.ReadAt(mark, s.size-probe.MarkSize); err != nil {
		return err
	}
	if s.marked = bytes.Equal(mark, probe.Mark(s.size)); !s.marked {
		if err := s.put(probe.Mark(s.size), s.size-probe.MarkSize); err != nil {
			return err
		}
	}
	if err := s.eraseKeys(); err != nil { // of what was to be destroyed when the power went
		return err
	}
	return s.put(make([]byte, probe.Reserved), 0)
}

// put writes bytes and waits until they are on the disk.
func (s *site) put(b []byte, at int64) error {
	if err := s.write(b, at); err != nil {
		return err
	}
	return s.Sync()
}

func (s *site) write(b []byte, at int64) error {
	if s.before != nil {
		if err := s.before(at); err != nil {
			return err
		}
	}
	_, err := s.WriteAt(b, at)
	return err
}

// done removes the mark: what was made counts from here on.
func (s *site) done() error { return s.put(make([]byte, probe.MarkSize), s.size-probe.MarkSize) }
