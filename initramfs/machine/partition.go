package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

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
	b, err := probe.LookAt(f, d.size)
	switch {
	case errors.Is(err, probe.ErrAmbiguous):
		return foreign(err.Error())
	case err != nil:
		return stage.Device{}, fmt.Errorf("%s: %w", d.path, err)
	case b.Empty && d.readOnly:
		return stage.Device{}, fmt.Errorf("%s: nothing can be made on it: %w", d.path, unix.EROFS)
	case !b.Empty && !holds(b.Type):
		return foreign(b.Reason)
	}
	return stage.Device{Path: d.path, FileSystem: b.Type, ReadOnly: d.readOnly, Empty: b.Empty, Label: b.Label, UUID: b.UUID, Size: d.size}, nil
}

// holds reports whether a state can lie in such a content: as a directory, in a file, or behind a key.
func holds(content string) bool {
	switch content {
	case "ext4", "btrfs", "xfs", "vfat", "exfat", "ntfs", stage.LUKS:
		return true
	}
	return false
}

// CreatePartition implements stage.StateMaker. The keeper makes it; the wait for its device is here.
func (m *Machine) CreatePartition(ctx context.Context, store string, spec stage.PartitionSpec) (stage.Device, error) {
	disk, err := m.diskOf(store)
	if err != nil {
		return stage.Device{}, fmt.Errorf("make partition %q: %w", spec.Name, err)
	}
	made, err := m.onDisk(ctx, stage.OpPartition, stage.DiskSpec{Device: disk.path, Partition: spec})
	if err != nil {
		return stage.Device{}, err
	}
	dev, err := m.StateDevice(ctx, boot.DeviceRef{Kind: boot.ByPartUUID, Value: made.UUID})
	if err == nil && !dev.Empty {
		err = fmt.Errorf("%w: a partition of that name is there, and it holds %s", stage.ErrForeign, dev.FileSystem)
	}
	if err != nil {
		return stage.Device{}, fmt.Errorf("make partition %q on %s: %w", spec.Name, disk.path, err)
	}
	return dev, nil
}

// GrowPartition implements stage.StateMaker. Where no room lies behind the partition, or another partition does, that is all.
func (m *Machine) GrowPartition(ctx context.Context, partition string) (grew bool, err error) {
	if err := m.scan(); err != nil {
		return false, fmt.Errorf("grow partition %s: %w", partition, err)
	}
	d := m.devices[filepath.Base(partition)]
	if d == nil || d.parent == "" || m.devices[d.parent] == nil {
		return false, nil // a whole disk is as large as it is
	}
	disk, start := m.devices[d.parent], d.start()
	if disk.size-start-d.size < probe.Reserved {
		return false, nil
	}
	for _, o := range m.devices {
		if o.parent == d.parent && o.start() > start {
			return false, nil
		}
	}
	done, err := m.onDisk(ctx, stage.OpGrowPartition, stage.DiskSpec{Device: disk.path, Number: d.partition.Number})
	if done.Grew {
		d.size = done.Size
	}
	return done.Grew, err
}

// start is where a partition begins, bytes.
func (d *blockDevice) start() int64 {
	sectors, _ := strconv.ParseInt(readLine(filepath.Join(classBlock, d.name, "start")), 10, 64)
	return sectors * sectorSize
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
