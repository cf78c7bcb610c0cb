package devmapper

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlPath is where devtmpfs puts the device of device-mapper's ioctls.
const controlPath = "/dev/mapper/control"

// sector is the unit of a table, whatever the blocks of the device are.
const sector = 512

// primary is DM_UDEV_PRIMARY_SOURCE_FLAG of libdevmapper.h in the upper half of an event number. Without it udev's 10-dm.rules
// would take the event for one that came by the way, and ignore the device.
const primary = 0x40 << 16

// version is the least version of the interface that is wanted.
var version = [3]uint32{4, 0, 0}

// Control is the open control device. One serves any number of devices, and any number of goroutines.
type Control struct{ fd int }

// Open opens the control device. The error is fs.ErrNotExist where the kernel has no device-mapper.
func Open() (*Control, error) {
	fd, err := unix.Open(controlPath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: controlPath, Err: err}
	}
	return &Control{fd}, nil
}

// Close closes it; the devices stay.
func (c *Control) Close() error { return unix.Close(c.fd) }

// Target is the only target of a device's table, which begins at its first sector.
type Target struct {
	Type   string
	Bytes  int64 // length
	Params string
}

// Create makes a read-only device with that table, ready to be read, and returns its number N: it is /dev/dm-N. It takes the three
// calls that there have to be, and removes what it made when one fails.
func (c *Control) Create(name string, t Target) (number uint32, err error) {
	made, err := c.ioctl("create", unix.DM_DEV_CREATE, name, request{})
	if err != nil {
		return 0, err
	}
	if _, err = c.ioctl("load", unix.DM_TABLE_LOAD, name, request{flags: unix.DM_READONLY_FLAG, target: &t}); err == nil {
		// Nothing was ever read or written: there is nothing to be flushed or frozen first.
		_, err = c.ioctl("resume", unix.DM_DEV_SUSPEND, name, request{flags: unix.DM_SKIP_LOCKFS_FLAG | unix.DM_NOFLUSH_FLAG, event: primary})
	}
	if err != nil {
		_ = c.Remove(name)
		return 0, err
	}
	return unix.Minor(made.Dev), nil
}

// Remove removes a device. It fails with EBUSY while somebody has it open.
func (c *Control) Remove(name string) error {
	_, err := c.ioctl("remove", unix.DM_DEV_REMOVE, name, request{event: primary})
	return err
}

// Number is the number N of a device: it is /dev/dm-N.
func (c *Control) Number(name string) (uint32, error) {
	head, err := c.ioctl("look at", unix.DM_DEV_STATUS, name, request{})
	if err != nil {
		return 0, err
	}
	return unix.Minor(head.Dev), nil
}

// request is what an ioctl is asked beside the name of the device.
type request struct {
	flags  uint32
	event  uint32
	target *Target
}

// ioctl carries out one command, see struct dm_ioctl in include/uapi/linux/dm-ioctl.h.
func (c *Control) ioctl(op string, command uintptr, name string, r request) (*unix.DmIoctl, error) {
	size := unix.SizeofDmIoctl
	if r.target != nil {
		size += unix.SizeofDmTargetSpec + len(r.target.Params) + 1
	}
	data := make([]byte, (size+7)&^7)
	head := (*unix.DmIoctl)(unsafe.Pointer(&data[0]))
	fail := func(err error) (*unix.DmIoctl, error) {
		return nil, &fs.PathError{Op: op + " dm device", Path: name, Err: err}
	}
	if len(name) >= len(head.Name) {
		return fail(unix.ENAMETOOLONG)
	}
	head.Version = version
	head.Data_size, head.Data_start = uint32(len(data)), unix.SizeofDmIoctl
	head.Flags, head.Event_nr = r.flags, r.event
	copy(head.Name[:], name)
	if r.target != nil {
		head.Target_count = 1
		spec := (*unix.DmTargetSpec)(unsafe.Pointer(&data[unix.SizeofDmIoctl]))
		spec.Length = uint64(r.target.Bytes) / sector
		spec.Next = uint32(len(data) - unix.SizeofDmIoctl)
		copy(spec.Target_type[:], r.target.Type)
		copy(data[unix.SizeofDmIoctl+unix.SizeofDmTargetSpec:], r.target.Params)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.fd), command, uintptr(unsafe.Pointer(head))); errno != 0 {
		return fail(errno)
	}
	return head, nil
}

// Names lists the devices.
func (c *Control) Names() ([]string, error) {
	for size := 16 << 10; ; size *= 4 {
		data := make([]byte, size)
		head := (*unix.DmIoctl)(unsafe.Pointer(&data[0]))
		head.Version = version
		head.Data_size, head.Data_start = uint32(size), unix.SizeofDmIoctl
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.fd), unix.DM_LIST_DEVICES, uintptr(unsafe.Pointer(head))); errno != 0 {
			return nil, fmt.Errorf("list dm devices: %w", errno)
		}
		if head.Flags&unix.DM_BUFFER_FULL_FLAG == 0 {
			return names(data[head.Data_start:head.Data_size]), nil
		}
	}
}

// names reads a list of struct dm_name_list: the number, the offset of the next, a name that ends in NUL.
func names(list []byte) []string {
	const numberSize, nameAt = 8, 12
	var found []string
	for len(list) > nameAt {
		next := binary.NativeEndian.Uint32(list[numberSize:])
		if name, _, _ := bytes.Cut(list[nameAt:], []byte{0}); len(name) > 0 {
			found = append(found, string(name))
		}
		if next == 0 || int(next) > len(list) {
			break
		}
		list = list[next:]
	}
	return found
}
