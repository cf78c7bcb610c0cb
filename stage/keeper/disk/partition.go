package disk

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"veneer/initramfs/machine/probe"
	"veneer/stage"
)

// isoPartition is the name that xorriso gives to the part of a hybrid ISO that is ISO 9660.
const isoPartition = "ISO9660"

// CreatePartition makes a partition behind all others, and returns its UUID:
//
//   - reads the table of the disk, and takes a partition of that name that is there already
//   - looks whether the place at the end holds anything
//   - clears its first MiB
//   - writes the table, each piece on the disk before the next
//   - tells the kernel
//
// Whether a partition that is there holds anything is for the caller to look at.
func (m *Disk) CreatePartition(disk string, spec stage.PartitionSpec) (uuid string, err error) {
	if uuid, err = m.createPartition(disk, spec); err != nil {
		return "", fmt.Errorf("make partition %q on %s: %w", spec.Name, disk, err)
	}
	return uuid, nil
}

func (m *Disk) createPartition(disk string, spec stage.PartitionSpec) (string, error) {
	f, g, err := openTable(disk)
	if err != nil {
		return "", err
	}
	defer f.Close()
	p, _, found, err := g.Find(spec.Name)
	if err != nil {
		return "", err
	}
	if !found {
		kind := spec.Type
		if kind == "" {
			kind = stage.PartitionLinux
		}
		var random [16]byte
		if _, err := rand.Read(random[:]); err != nil {
			return "", err
		}
		// On a stick that an ISO was written to: room for a larger one, lest the next does not fit before the state.
		if _, _, iso, err := g.Find(isoPartition); err == nil && iso {
			g.Spare(g.Used())
		}
		if p, err = g.Add(spec.Name, kind, random, spec.Size, spec.MinSize); err != nil {
			return "", err
		}
		if err := clearPlace(f, p); err != nil {
			return "", err
		}
	}
	if err := m.write(f, g.Writes()); err != nil {
		return "", err
	}
	if !kernelKnows(disk, p.Number) {
		if err := blkpg(f, unix.BLKPG_ADD_PARTITION, p); err != nil {
			return "", fmt.Errorf("it is in the table, and the kernel does not take it before the next boot: %w", err)
		}
	}
	return p.UUID, nil
}

// kernelKnows reports whether the kernel has a partition of that number on a disk.
func kernelKnows(disk string, number int) bool {
	files, _ := filepath.Glob(filepath.Join("/sys/class/block", filepath.Base(disk), "*/partition"))
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(text)) == strconv.Itoa(number) {
			return true
		}
	}
	return false
}

// GrowPartition makes a partition reach to the end of its disk, if the table is a GPT and no other lies behind it; size is what it has then.
func (m *Disk) GrowPartition(disk string, number int) (grew bool, size int64, err error) {
	fail := func(err error) (bool, int64, error) {
		return false, 0, fmt.Errorf("grow partition %d of %s: %w", number, disk, err)
	}
	f, g, err := openTable(disk)
	if errors.Is(err, probe.ErrTable) {
		m.Detail("partition %d of %s does not grow: %v", number, disk, err)
		return false, 0, nil
	}
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	p, grew, err := g.Grow(number)
	if err != nil {
		return fail(err)
	}
	if !grew {
		return false, 0, nil
	}
	if err := m.write(f, g.Writes()); err != nil {
		return fail(err)
	}
	if err := blkpg(f, unix.BLKPG_RESIZE_PARTITION, p); err != nil {
		return fail(err)
	}
	return true, p.Size, nil
}

// clearPlace looks whether the place of a new partition holds anything that is known, and clears its first MiB if not.
func clearPlace(f *os.File, p probe.Partition) error {
	place := &section{f, p.Start}
	c, err := probe.Sniff(place, p.Size)
	if err == nil && c.Type != "" {
		err = errors.New(c.Type)
	}
	if err != nil {
		return fmt.Errorf("%w: the free room at %d MiB holds the remains of something: %w; if nobody needs it: wipefs -a -o there, or give it a partition",
			stage.ErrForeign, p.Start>>20, err)
	}
	if _, err := f.WriteAt(make([]byte, min(probe.Reserved, p.Size)), p.Start); err != nil {
		return err
	}
	if _, err := f.WriteAt(make([]byte, probe.MarkSize), p.Start+p.Size-probe.MarkSize); err != nil {
		return err
	}
	return f.Sync()
}

// section is the part of a disk behind an offset.
type section struct {
	f   *os.File
	off int64
}

func (s *section) ReadAt(p []byte, off int64) (int, error) { return s.f.ReadAt(p, s.off+off) }

// openTable opens a disk and reads its table to change it. The disk may be in use.
func openTable(disk string) (*os.File, *probe.GPT, error) {
	f, err := os.OpenFile(disk, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	g, err := probe.ReadGPT(f, size, sectorOf(f))
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, g, nil
}

// write makes each piece durable before the next.
func (m *Disk) write(f *os.File, ws []probe.Write) error {
	for _, w := range ws {
		m.Detail("write %d bytes at %d of %s", len(w.Data), w.Offset, f.Name())
		if _, err := f.WriteAt(w.Data, w.Offset); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// blkpg tells the kernel of one partition, see blkpg(4) in include/uapi/linux/blkpg.h: the whole table cannot be read again while
// another partition is mounted.
func blkpg(f *os.File, op int32, p probe.Partition) error {
	part := unix.BlkpgPartition{Start: p.Start, Length: p.Size, Pno: int32(p.Number)}
	arg := unix.BlkpgIoctlArg{Op: op, Datalen: int32(unsafe.Sizeof(part)), Data: (*byte)(unsafe.Pointer(&part))}
	if err := ioctl(int(f.Fd()), unix.BLKPG, unsafe.Pointer(&arg)); err != nil {
		return fmt.Errorf("tell the kernel of partition %s: %w", strconv.Itoa(p.Number), err)
	}
	return nil
}

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
