package machine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/initramfs/machine/probe"
	"veneer/stage"
)

// StateDevice implements stage.StateMaker.
func (m *Machine) StateDevice(ctx context.Context, ref boot.DeviceRef) (stage.Device, error) {
	// What we mapped ourselves is there, and no candidate for any other name.
	if target, err := os.Readlink(filepath.Join(classBlock, filepath.Base(ref.Value))); ref.Kind == boot.ByPath && err == nil && strings.Contains(target, "/virtual/") {
		return m.LookAt(ref.Value)
	}
	d, err := m.find(ctx, ref)
	if err != nil {
		return stage.Device{}, err
	}
	return d.state()
}

// LookAt implements stage.StateMaker.
func (m *Machine) LookAt(device string) (stage.Device, error) {
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return stage.Device{}, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return stage.Device{}, err
	}
	readOnly, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKROGET)
	if err != nil {
		return stage.Device{}, &fs.PathError{Op: "look at", Path: device, Err: err}
	}
	return (&blockDevice{path: device, size: size, readOnly: readOnly&0xff != 0}).state()
}

// state is what can be said of a device that is to hold a state.
func (d *blockDevice) state() (stage.Device, error) {
	foreign := func(reason string) (stage.Device, error) {
		return stage.Device{}, fmt.Errorf("%w: %s: %s", stage.ErrForeign, d.path, reason)
	}
	if d.size == 0 {
		return foreign("no medium")
	}
	f, err := os.OpenFile(d.path, os.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return stage.Device{}, err
	}
	defer f.Close()
	b, err := lookAt(f, d.size)
	switch {
	case errors.Is(err, probe.ErrAmbiguous):
		return foreign(err.Error())
	case err != nil:
		return stage.Device{}, fmt.Errorf("%s: %w", d.path, err)
	case b.empty && d.readOnly:
		return stage.Device{}, fmt.Errorf("%s: nothing can be made on it: %w", d.path, unix.EROFS)
	case !b.empty && !holds(b.Type):
		return foreign(b.reason)
	}
	return stage.Device{Path: d.path, FileSystem: b.Type, ReadOnly: d.readOnly, Empty: b.empty, Label: b.Label, UUID: b.UUID, Size: d.size}, nil
}

// holds reports whether a state can lie in such a content: as a directory, in a file, or behind a key.
func holds(content string) bool {
	switch content {
	case "ext4", "btrfs", "xfs", "vfat", "exfat", "ntfs", luksType:
		return true
	}
	return false
}

// CreatePartition implements stage.StateMaker:
//
//   - reads the table of the disk, and takes a partition of that name that is there already
//   - looks whether the place at the end holds anything
//   - clears its first MiB
//   - writes the table, each piece on the disk before the next
//   - tells the kernel, and waits for the device
func (m *Machine) CreatePartition(ctx context.Context, store string, spec stage.PartitionSpec) (stage.Device, error) {
	disk, err := m.diskOf(store)
	if err != nil {
		return stage.Device{}, fmt.Errorf("make partition %q: %w", spec.Name, err)
	}
	d, err := m.createPartition(ctx, disk, spec)
	if err != nil {
		return stage.Device{}, fmt.Errorf("make partition %q on %s: %w", spec.Name, disk.path, err)
	}
	return d, nil
}

func (m *Machine) createPartition(ctx context.Context, disk *blockDevice, spec stage.PartitionSpec) (stage.Device, error) {
	f, g, err := disk.table()
	if err != nil {
		return stage.Device{}, err
	}
	defer f.Close()
	p, _, found, err := g.Find(spec.Name)
	if err != nil {
		return stage.Device{}, err
	}
	if !found {
		kind := spec.Type
		if kind == "" {
			kind = stage.PartitionLinux
		}
		var random [16]byte
		if _, err := rand.Read(random[:]); err != nil {
			return stage.Device{}, err
		}
		if p, err = g.Add(spec.Name, kind, random, spec.Size, spec.MinSize); err != nil {
			return stage.Device{}, err
		}
		if err := clearPlace(f, p); err != nil {
			return stage.Device{}, err
		}
	}
	if err := m.write(f, g.Writes()); err != nil {
		return stage.Device{}, err
	}
	if !m.partitionIsThere(disk, p) {
		if err := blkpg(f, unix.BLKPG_ADD_PARTITION, p); err != nil {
			return stage.Device{}, fmt.Errorf("it is in the table, and the kernel does not take it before the next boot: %w", err)
		}
	}
	d, err := m.find(ctx, boot.DeviceRef{Kind: boot.ByPartUUID, Value: p.UUID})
	if err != nil {
		return stage.Device{}, err
	}
	dev, err := d.state()
	if err == nil && !dev.Empty {
		err = fmt.Errorf("%w: a partition of that name is there, and it holds %s", stage.ErrForeign, dev.FileSystem)
	}
	return dev, err
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
	if _, err := f.WriteAt(make([]byte, min(reserved, p.Size)), p.Start); err != nil {
		return err
	}
	if _, err := f.WriteAt(make([]byte, markSize), p.Start+p.Size-markSize); err != nil {
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

// GrowPartition implements stage.StateMaker.
func (m *Machine) GrowPartition(_ context.Context, partition string) (grew bool, err error) {
	wrap := func(err error) error { return fmt.Errorf("grow partition %s: %w", partition, err) }
	if err := m.scan(); err != nil {
		return false, wrap(err)
	}
	d := m.devices[filepath.Base(partition)]
	if d == nil || d.parent == "" || m.devices[d.parent] == nil {
		return false, nil // a whole disk is as large as it is
	}
	f, g, err := m.devices[d.parent].table()
	if errors.Is(err, probe.ErrTable) {
		m.Detail("%s does not grow: %v", partition, err)
		return false, nil
	}
	if err != nil {
		return false, wrap(err)
	}
	defer f.Close()
	p, grew, err := g.Grow(d.partition.Number)
	if err != nil || !grew {
		return false, err
	}
	if err := m.write(f, g.Writes()); err != nil {
		return false, wrap(err)
	}
	if err := blkpg(f, unix.BLKPG_RESIZE_PARTITION, p); err != nil {
		return false, wrap(err)
	}
	d.size = p.Size
	return true, nil
}

// diskOf returns the disk that a device lies on. It is the only one that is ever changed.
func (m *Machine) diskOf(store string) (*blockDevice, error) {
	if err := m.scan(); err != nil {
		return nil, err
	}
	d := m.devices[filepath.Base(store)]
	if d != nil && d.parent != "" {
		d = m.devices[d.parent]
	}
	if d == nil || !strings.HasPrefix(store, "/dev/") {
		return nil, fmt.Errorf("%s lies on no disk that is known", store)
	}
	if d.readOnly {
		return nil, fmt.Errorf("%s: %w", d.path, unix.EROFS)
	}
	return d, nil
}

// table opens a disk and reads its table to change it. The disk may be in use.
func (d *blockDevice) table() (*os.File, *probe.GPT, error) {
	f, err := os.OpenFile(d.path, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	g, err := probe.ReadGPT(f, d.size, sectorOf(f))
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, g, nil
}

// write makes each piece durable before the next.
func (m *Machine) write(f *os.File, ws []probe.Write) error {
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

func (m *Machine) partitionIsThere(disk *blockDevice, p probe.Partition) bool {
	for _, d := range m.devices {
		if d.parent == disk.name && d.partition.Number == p.Number {
			return true
		}
	}
	return false
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
