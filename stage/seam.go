package stage

import (
	"context"
	"errors"
	"io/fs"

	"veneer/boot"
)

// What the larger variants build steps of their own from. The local init links none of it.

// Scout is what a variant needs of a machine that looks for a medium without a name.
type Scout interface {
	// NextDevice waits until a block device with a file system is there whose path is not in seen, or until ctx ends: the error
	// is ErrNoDevice then, and lists what was there. Removable devices and those on USB come before the others, which are held
	// back for as long as one of the former has been announced and is not there yet. Label and UUID are answered.
	NextDevice(ctx context.Context, seen map[string]bool) (Device, error)
}

// MountMedium mounts a device read-only at StoreDir, as the store is mounted, and returns its files. reference is the device as it
// was asked for, for the record.
func MountMedium(r *Runner, m Machine, reference boot.DeviceRef, dev Device) (fs.FS, error) {
	if reference.Kind == "" {
		reference = boot.DeviceRef{Kind: boot.ByPath, Value: dev.Path}
	}
	tree, err := mountStore(r, m, boot.StoreRef{Device: reference, Dir: "."}, dev)
	return tree.files, err
}

// FileSystemOptions returns the modules and the options with which a file system of others is mounted, and what keeps the kernel
// from replaying its journal; false where it is none that a medium or what is kept can lie on.
func FileSystemOptions(fileSystem string) (modules []string, options, noReplay string, known bool) {
	f, known := storeFileSystems[fileSystem]
	return f.modules, f.options, f.noReplay, known
}

// Try calls fn; what it did is taken back where it fails.
func (r *Runner) Try(fn func() error) error {
	mark := r.mark()
	err := fn()
	if err != nil {
		err = errors.Join(err, r.unwindTo(mark))
	}
	return err
}

// Memory makes the tmpfs for what is gone at the next boot, at UpperDir, and returns its size.
func Memory(r *Runner, m Machine, size boot.Size, ram int64) (int64, error) {
	if size == (boot.Size{}) {
		size = defaultUpperSize
	}
	return makeMemory(r, m, boot.Upper{Kind: boot.UpperTmpfs, Size: size}, ram)
}

// LinkDir is where short names for the lowers of an overlay may be made.
const LinkDir = linkDir

// Patient is how long a step may take that reads a whole medium.
const Patient = 4 * patient
