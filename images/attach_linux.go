package images

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	devmapper "github.com/anatol/devmapper.go"
	"golang.org/x/sys/unix"
)

// loopTries bounds the race for a free loop device; each lost round means that somebody else got one.
const loopTries = 64

// Device is an attached image: a block device, and how to let go of it.
type Device struct {
	Path string // /dev/dm-0, or /dev/loop0 for an image that is not verified
	loop *os.File
	dm   string // name of the dm device, "" for none
}

// Attach makes a read-only block device of the image file backing that yields nothing but bytes which hash to img.ID: a loop
// device under dm-verity. The parameters come from img, that is from the signed manifest, never from the file. What a bad
// block does later is the corruption policy. It needs the kernel's loop and dm-verity.
//
// See Documentation/admin-guide/device-mapper/verity.rst for the table.
func Attach(backing string, img Image, onCorruption Corruption) (*Device, error) {
	d, err := AttachUnverified(backing, img)
	if err != nil {
		return nil, err
	}
	table := verityTable(d.Path, img, onCorruption)
	name := "veneer-" + img.ID
	if err := devmapper.CreateAndLoad(name, "", devmapper.ReadOnlyFlag, table); err != nil {
		return nil, errors.Join(fmt.Errorf("dm-verity over %s with root hash %s: %w", backing, img.ID, err), d.Close())
	}
	d.dm = name
	info, err := devmapper.InfoByName(name)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("dm device %s: %w", name, err), d.Close())
	}
	d.Path = "/dev/dm-" + strconv.FormatUint(uint64(unix.Minor(info.DevNo)), 10)
	return d, nil
}

func verityTable(device string, img Image, onCorruption Corruption) devmapper.VerityTable {
	v := img.Verity
	block := uint64(v.BlockSize)
	t := devmapper.VerityTable{
		Length:     uint64(v.DataBlocks) * block,
		HashType:   1,
		DataDevice: device, HashDevice: device,
		DataBlockSize: block, HashBlockSize: block,
		NumDataBlocks:  uint64(v.DataBlocks),
		HashStartBlock: uint64(v.HashOffset)/block + 1, // behind the superblock
		Algorithm:      v.Algorithm,
		Digest:         img.ID,
		Salt:           v.Salt,
	}
	if t.Salt == "" {
		t.Salt = "-"
	}
	switch onCorruption {
	case Restart:
		t.Params = []string{"1", "restart_on_corruption"}
	case Panic:
		t.Params = []string{"1", "panic_on_corruption"}
	}
	return t
}

// AttachUnverified makes a read-only loop device of the image file, and checks nothing but its size.
func AttachUnverified(backing string, img Image) (*Device, error) {
	// Without O_NONBLOCK the open of a fifo of that name would wait for ever.
	file, err := os.OpenFile(backing, os.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("image %s is not a regular file (%s)", backing, info.Mode().Type())
	}
	if info.Size() != img.Size {
		return nil, fmt.Errorf("image %s has %d bytes, the manifest says %d: the copy is incomplete or not the one that was signed", backing, info.Size(), img.Size)
	}
	return attachLoop(file, backing)
}

// AttachFile makes a read-only loop device of a file that needs no check of ours: one of the initramfs, which was verified, if
// at all, as a whole and before us.
func AttachFile(name string) (*Device, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return attachLoop(file, name)
}

// AttachWritable makes a loop device that can be written of a file or a block device which is open for writing: of all of it,
// or of its first limit bytes, with sectors of that many bytes.
func AttachWritable(file *os.File, limit int64, sector int) (*Device, error) {
	config := unix.LoopConfig{Size: uint32(sector)}
	config.Info.Sizelimit = uint64(limit)
	return attach(file, file.Name(), os.O_RDWR, config)
}

func attachLoop(file *os.File, name string) (*Device, error) {
	var config unix.LoopConfig
	config.Info.Flags = unix.LO_FLAGS_READ_ONLY
	return attach(file, name, os.O_RDONLY, config)
}

func attach(file *os.File, name string, mode int, config unix.LoopConfig) (*Device, error) {
	loop, err := configureLoop(file, name, mode, config)
	if err != nil {
		return nil, fmt.Errorf("loop device for %s: %w", name, err)
	}
	return &Device{Path: loop.Name(), loop: loop}, nil
}

// configureLoop binds a free loop device to file, see loop(4). Direct I/O keeps the blocks of the image out of the page cache
// of the store, where they would lie a second time; the kernel falls back by itself where the store cannot do it. AUTOCLEAR
// lets the device go with its last user, whoever that is.
func configureLoop(file *os.File, name string, mode int, config unix.LoopConfig) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	config.Fd = uint32(file.Fd())
	config.Info.Flags |= unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
	copy(config.Info.File_name[:len(config.Info.File_name)-1], name)
	for range loopTries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, &fs.PathError{Op: "get free", Path: control.Name(), Err: err}
		}
		loop, err := os.OpenFile("/dev/loop"+strconv.Itoa(n), mode|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return loop, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) { // EBUSY: somebody else took it between the two calls
			return nil, &fs.PathError{Op: "configure", Path: loop.Name(), Err: err}
		}
	}
	return nil, fmt.Errorf("no free one in %d tries", loopTries)
}

// Release lets go of the handle that keeps an unused device alive. Call it once the image is mounted: from then on the mount
// keeps the device, and the device goes with it.
func (d *Device) Release() error {
	if d.loop == nil {
		return nil
	}
	err := d.loop.Close()
	d.loop = nil
	return err
}

// Close takes the device down. It fails with EBUSY while something is mounted from it.
func (d *Device) Close() error {
	var err error
	if d.dm != "" {
		if rerr := devmapper.Remove(d.dm); rerr != nil {
			err = fmt.Errorf("remove dm device %s: %w", d.dm, rerr)
		}
		d.dm = ""
	}
	return errors.Join(err, d.Release())
}
