package esp

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// fatRoot is the inode of the root of every FAT (MSDOS_ROOT_INO of Linux's msdos_fs.h).
const fatRoot = 1

// Check tells why a directory cannot be an EFI system partition: it is not the root of a FAT file system, or it is of the file system that
// store lies on. It only reads.
func Check(dir, store string) error {
	var of unix.Statfs_t
	if err := unix.Statfs(dir, &of); err != nil { // also mounts what is mounted on demand
		return &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	var at, st unix.Stat_t
	if err := unix.Stat(dir, &at); err != nil {
		return &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if err := unix.Stat(store, &st); err != nil {
		return &os.PathError{Op: "stat", Path: store, Err: err}
	}
	switch {
	case at.Dev == st.Dev:
		return fmt.Errorf("%s lies on the file system of the store %s, and an EFI system partition is one of its own", dir, store)
	case int64(of.Type) != unix.MSDOS_SUPER_MAGIC:
		return fmt.Errorf("%s is not on FAT, which an EFI system partition is (statfs says type %#x)", dir, int64(of.Type))
	case at.Ino != fatRoot:
		return fmt.Errorf("%s lies within an EFI system partition: name the directory that it is mounted at", dir)
	}
	return nil
}
