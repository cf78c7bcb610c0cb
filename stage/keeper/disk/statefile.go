package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"veneer/initramfs/machine/probe"
	"veneer/overlay/entry"
	"veneer/stage"
)

const (
	defaultFileSize = 256 << 20
	minFileSize     = 16 << 20
)

// NewFile makes the file of a state in a directory:
//
//   - makes NAME.new, as large as asked; on vfat and exfat, which know no holes, that writes it all
//   - makes an ext4 in it with the base's mkfs, and waits until it is on the disk
//   - renames it to NAME
func (m *Disk) NewFile(ctx context.Context, root, dir string, spec stage.FileSpec) error {
	return inDir(dir, spec, func(at int) error { return m.newFile(ctx, root, at, spec) })
}

// GrowFile makes the file larger where what is in it is fuller than asked; the caller grows the file system once it is mounted.
func (m *Disk) GrowFile(dir string, spec stage.FileSpec) error {
	return inDir(dir, spec, func(at int) error {
		f, err := entry.OpenRegular(at, spec.Name)
		if err != nil {
			return err
		}
		defer f.Close()
		return growFile(f, at, spec)
	})
}

func inDir(dir string, spec stage.FileSpec, fn func(at int) error) error {
	if !spec.Named() {
		return errors.New("that cannot be its name")
	}
	at, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	return fn(at)
}

func (m *Disk) newFile(ctx context.Context, root string, at int, spec stage.FileSpec) error {
	size := spec.Size
	if size == 0 {
		size = defaultFileSize
	}
	size = max(size, minFileSize) &^ (probe.Reserved - 1)
	free, err := freeRoom(at)
	if err != nil {
		return err
	}
	if free < size {
		return fmt.Errorf("%w: %d MiB are free, %d are wanted", unix.ENOSPC, free>>20, size>>20)
	}
	name := spec.Name + stage.NewFile
	if err := unix.Unlinkat(at, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	fd, err := unix.Openat(at, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if err := errors.Join(f.Truncate(size+probe.Reserved), f.Sync()); err != nil {
		return errors.Join(err, unix.Unlinkat(at, name, 0))
	}
	// mkfs leaves out the last MiB, as of a device; a file goes without.
	if err := m.mkfs(ctx, root, &site{File: f, size: size + probe.Reserved}, "ext4", spec.Label); err != nil {
		return errors.Join(err, unix.Unlinkat(at, name, 0))
	}
	if err := errors.Join(f.Truncate(size), f.Sync()); err != nil {
		return err
	}
	if err := unix.Renameat2(at, name, at, spec.Name, unix.RENAME_NOREPLACE); errors.Is(err, unix.EINVAL) {
		err = unix.Renameat(at, name, at, spec.Name) // exfat and ntfs3 know no flags
		if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return unix.Fsync(at)
}

// growFile makes a file larger when the ext4 in it is fuller than asked: by a quarter, within what it may have and what is free.
func growFile(f *os.File, at int, spec stage.FileSpec) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	st, err := probe.ReadState(f, size, "ext4")
	if err != nil {
		return err
	}
	if !spec.Wants(st.Used, st.Size, size) {
		return nil
	}
	free, err := freeRoom(at)
	if err != nil {
		return err
	}
	var all unix.Statfs_t
	if err := unix.Fstatfs(at, &all); err != nil {
		return err
	}
	most := size + free - int64(all.Blocks)*all.Bsize/8
	if spec.Max > 0 {
		most = min(most, spec.Max)
	}
	to := min(size+max(size/4, stage.FileStep), most) &^ (probe.Reserved - 1)
	if all.Type == unix.MSDOS_SUPER_MAGIC {
		to = min(to, 4<<30-probe.Reserved)
	}
	if to <= size {
		return nil
	}
	if err := f.Truncate(to); err != nil {
		return errors.Join(err, f.Truncate(size))
	}
	return f.Sync()
}

// freeRoom is how many bytes a file may take on the file system of a directory.
func freeRoom(at int) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(at, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}
