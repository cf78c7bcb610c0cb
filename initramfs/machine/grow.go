package machine

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ioctls that grow a mounted file system, see include/uapi/linux/{ext4,btrfs}.h and xfs_fs.h.
const (
	ext4Resize  = 0x40086610 // EXT4_IOC_RESIZE_FS: the number of blocks
	btrfsResize = 0x50009403 // BTRFS_IOC_RESIZE: struct btrfs_ioctl_vol_args
	xfsGeometry = 0x80705864 // XFS_IOC_FSGEOMETRY_V1
	xfsGrowData = 0x4010586e // XFS_IOC_FSGROWFSDATA: struct xfs_growfs_data
)

// GrowFileSystem implements stage.StateKeeper. It takes no program: the kernel does it all.
func (m *Machine) GrowFileSystem(mountpoint string) (grew bool, err error) {
	wrap := func(err error) error { return &fs.PathError{Op: "grow file system", Path: mountpoint, Err: err} }
	fd, err := unix.Open(mountpoint, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, wrap(err)
	}
	defer unix.Close(fd)
	var before, after unix.Statfs_t
	if err := unix.Fstatfs(fd, &before); err != nil {
		return false, wrap(err)
	}
	switch int64(before.Type) {
	case unix.EXT4_SUPER_MAGIC:
		err = growExt4(fd, before.Bsize)
	case unix.BTRFS_SUPER_MAGIC:
		var args [4096]byte
		copy(args[8:], "max")
		err = ioctl(fd, btrfsResize, unsafe.Pointer(&args))
	case unix.XFS_SUPER_MAGIC:
		err = growXFS(fd)
	default:
		return false, nil
	}
	if err != nil {
		return false, wrap(err)
	}
	if err := unix.Fstatfs(fd, &after); err != nil {
		return false, wrap(err)
	}
	if after.Blocks > before.Blocks {
		m.Detail("the file system on %s grew from %d to %d MiB", mountpoint, before.Blocks*uint64(before.Bsize)>>20, after.Blocks*uint64(after.Bsize)>>20)
	}
	return after.Blocks > before.Blocks, nil
}

func growExt4(fd int, block int64) error {
	size, err := deviceSize(fd)
	if err != nil {
		return err
	}
	blocks := uint64(size / block)
	return ioctl(fd, ext4Resize, unsafe.Pointer(&blocks))
}

func growXFS(fd int) error {
	var geometry struct {
		BlockSize, _, _, _, _, _, _, IMaxPct uint32
		DataBlocks                           uint64
		_                                    [72]byte
	}
	if err := ioctl(fd, xfsGeometry, unsafe.Pointer(&geometry)); err != nil {
		return err
	}
	size, err := deviceSize(fd)
	if err != nil {
		return err
	}
	grow := struct {
		Blocks  uint64
		IMaxPct uint32
		_       uint32
	}{Blocks: uint64(size / int64(geometry.BlockSize)), IMaxPct: geometry.IMaxPct}
	if grow.Blocks <= geometry.DataBlocks {
		return nil
	}
	return ioctl(fd, xfsGrowData, unsafe.Pointer(&grow))
}

// deviceSize is the size of the block device that a file lies on.
func deviceSize(fd int) (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	file := filepath.Join("/sys/dev/block", fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)), "size")
	sectors, err := strconv.ParseInt(readLine(file), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return sectors * sectorSize, nil
}

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
