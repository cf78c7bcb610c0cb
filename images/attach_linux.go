package images

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"veneer/images/devmapper"
)

// loopTries bounds the race for a free loop device; each lost round means that somebody else got one.
const loopTries = 64

// Attacher makes block devices of images. It keeps the control devices of the kernel open, since there may be many images; any
// number of goroutines may use it at a time.
type Attacher struct {
	loop *os.File
	dm   *devmapper.Control // nil where nothing is verified
}

// NewAttacher opens the control devices. It needs the kernel's loop driver and, unless nothing is to be verified, dm-verity.
func NewAttacher(verified bool) (*Attacher, error) {
	loop, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	a := &Attacher{loop: loop}
	if verified {
		if a.dm, err = devmapper.Open(); err != nil {
			return nil, errors.Join(err, loop.Close())
		}
	}
	return a, nil
}

// Close closes the control devices. What was attached stays.
func (a *Attacher) Close() error {
	err := a.loop.Close()
	if a.dm != nil {
		err = errors.Join(err, a.dm.Close())
	}
	return err
}

// Device is an attached image: a block device, and how to let go of it.
type Device struct {
	Path string // /dev/dm-0, or /dev/loop0 for an image that is not verified
	loop int    // descriptor of the loop device, -1 when it was let go
	dm   string // name of the dm device, "" for none
}

// Attach makes a read-only block device of the image file backing that yields nothing but bytes which hash to img.ID: a loop
// device under dm-verity. The parameters come from img, that is from the signed manifest, never from the file. What a bad
// block does later is the corruption policy. From an Attacher that verifies nothing it is a loop device, of which nothing is
// checked but its size.
//
// See Documentation/admin-guide/device-mapper/verity.rst for the table.
func (a *Attacher) Attach(backing string, img Image, onCorruption Corruption) (*Device, error) {
	// Without O_NONBLOCK the open of a fifo of that name would wait for ever.
	file, err := unix.Open(backing, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: backing, Err: err}
	}
	defer unix.Close(file)
	var st unix.Stat_t
	if err := unix.Fstat(file, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: backing, Err: err}
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG {
		return nil, fmt.Errorf("image %s is not a regular file (type %#o)", backing, kind)
	}
	if st.Size != img.Size {
		return nil, fmt.Errorf("image %s has %d bytes, the manifest says %d: the copy is incomplete or not the one that was signed", backing, st.Size, img.Size)
	}
	d, err := a.attachLoop(file, backing, os.O_RDONLY, readOnly())
	if err != nil || a.dm == nil {
		return d, err
	}
	name := "veneer-" + img.ID
	number, err := a.dm.Create(name, verityTarget(d.Path, img, onCorruption))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("dm-verity over %s with root hash %s: %w", backing, img.ID, err), d.Close())
	}
	d.dm, d.Path = name, "/dev/dm-"+strconv.FormatUint(uint64(number), 10)
	return d, nil
}

// AttachFile makes a read-only loop device of a file that needs no check of ours: one of the initramfs, which was verified, if
// at all, as a whole and before us.
func AttachFile(name string) (*Device, error) {
	a, err := NewAttacher(false)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	file, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(file)
	return a.attachLoop(file, name, os.O_RDONLY, readOnly())
}

// AttachWritable makes a loop device that can be written of a file or a block device which is open for writing: of all of it,
// or of its first limit bytes, with sectors of that many bytes.
func AttachWritable(file *os.File, limit int64, sector int) (*Device, error) {
	a, err := NewAttacher(false)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	config := unix.LoopConfig{Size: uint32(sector)}
	config.Info.Sizelimit = uint64(limit)
	return a.attachLoop(int(file.Fd()), file.Name(), os.O_RDWR, config)
}

func readOnly() (config unix.LoopConfig) {
	config.Info.Flags = unix.LO_FLAGS_READ_ONLY
	return config
}

// verityTarget is the table of dm-verity: version, data device, hash device, sizes of their blocks, number of data blocks, first
// hash block, algorithm, root hash, salt, number of options, options.
func verityTarget(device string, img Image, onCorruption Corruption) devmapper.Target {
	v := img.Verity
	salt := v.Salt
	if salt == "" {
		salt = "-"
	}
	params := fmt.Sprintf("1 %s %s %d %d %d %d %s %s %s", device, device, v.BlockSize, v.BlockSize, v.DataBlocks,
		v.HashOffset/int64(v.BlockSize)+1, v.Algorithm, img.ID, salt) // the hashes lie behind the superblock
	switch onCorruption {
	case Restart:
		params += " 1 restart_on_corruption"
	case Panic:
		params += " 1 panic_on_corruption"
	}
	return devmapper.Target{Type: "verity", Bytes: v.DataBlocks * int64(v.BlockSize), Params: params}
}

// attachLoop binds a free loop device to file, see loop(4). Direct I/O keeps the blocks of the image out of the page cache of the
// store, where they would lie a second time; the kernel falls back by itself where the store cannot do it. AUTOCLEAR lets the
// device go with its last user, whoever that is. Plain system calls: each os.File would cost as many again, to find out that
// it cannot be polled.
func (a *Attacher) attachLoop(file int, name string, mode int, config unix.LoopConfig) (*Device, error) {
	fail := func(err error) (*Device, error) { return nil, fmt.Errorf("loop device for %s: %w", name, err) }
	config.Fd = uint32(file)
	config.Info.Flags |= unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
	copy(config.Info.File_name[:len(config.Info.File_name)-1], name)
	for range loopTries {
		n, err := unix.IoctlRetInt(int(a.loop.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return fail(&fs.PathError{Op: "get free", Path: a.loop.Name(), Err: err})
		}
		path := "/dev/loop" + strconv.Itoa(n)
		loop, err := unix.Open(path, mode|unix.O_CLOEXEC, 0)
		if err != nil {
			return fail(&fs.PathError{Op: "open", Path: path, Err: err})
		}
		err = unix.IoctlLoopConfigure(loop, &config)
		if err == nil {
			return &Device{Path: path, loop: loop}, nil
		}
		unix.Close(loop)
		if !errors.Is(err, unix.EBUSY) { // EBUSY: somebody else took it between the two calls
			return fail(&fs.PathError{Op: "configure", Path: path, Err: err})
		}
	}
	return fail(fmt.Errorf("no free one in %d tries", loopTries))
}

// Release lets go of the handle that keeps an unused device alive. Call it once the image is mounted: from then on the mount
// keeps the device, and the device goes with it.
func (d *Device) Release() error {
	if d.loop < 0 {
		return nil
	}
	err := unix.Close(d.loop)
	d.loop = -1
	return err
}

// Close takes the device down. It fails with EBUSY while something is mounted from it.
func (d *Device) Close() error {
	var err error
	if d.dm != "" {
		err = removeDM(d.dm)
		d.dm = ""
	}
	return errors.Join(err, d.Release())
}

// removeDM opens the control device anew: what made the dm device may be closed by now.
func removeDM(name string) error {
	dm, err := devmapper.Open()
	if err != nil {
		return err
	}
	defer dm.Close()
	return dm.Remove(name)
}
