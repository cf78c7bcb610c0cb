package qemu

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrInUse means that another program has a disk file open in a way that keeps a VM from it. The caller may wait for its end, or
// give the VM a snapshot or a copy.
var ErrInUse = errors.New("in use by another virtual machine")

// The bytes of a disk file that QEMU locks (block/file-posix.c): one for each thing that it does with the file, and 100 further
// one for each thing that it lets nobody else do.
const (
	lockFirst    = 100
	lockWrites   = 101
	lockResizes  = 103
	lockNoReader = 200
	lockCount    = 200
)

// CheckFree reports every disk that QEMU could not open now: one that another QEMU holds, which wraps ErrInUse, and one that the
// VM has twice while it writes to it. QEMU itself would speak of a lock and name the file only.
func CheckFree(disks ...Disk) error {
	var errs []error
	for i, d := range disks {
		if err := d.checkFree(); err != nil {
			errs = append(errs, err)
			continue
		}
		for _, other := range disks[:i] {
			if (d.writes() || other.writes()) && sameFile(d.Path, other.Path) {
				errs = append(errs, fmt.Errorf("disk %s is attached twice: add readonly or snapshot to each", d.Path))
				break
			}
		}
	}
	return errors.Join(errs...)
}

// writes claims that QEMU opens the file to write to it.
func (d Disk) writes() bool { return !d.ReadOnly && !d.Snapshot && d.Bus != CDROM }

func (d Disk) checkFree() error {
	f, err := os.Open(d.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	if d.writes() {
		if held(f, lockFirst, lockCount) {
			return fmt.Errorf("disk %s: %w: end that one, or add snapshot to this disk", d.Path, ErrInUse)
		}
		return nil
	}
	for _, at := range []int64{lockWrites, lockResizes, lockNoReader} {
		if held(f, at, 1) {
			return fmt.Errorf("disk %s: %w, which writes to it: end that one, or use a copy", d.Path, ErrInUse)
		}
	}
	return nil
}

// held claims that another open file has a lock on some of the bytes (F_OFD_GETLK in fcntl(2)). What cannot be asked for, on
// some network file systems, is left to QEMU.
func held(f *os.File, start, length int64) bool {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: 0, Start: start, Len: length}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock)
	return err == nil && lock.Type != unix.F_UNLCK
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	y, other := os.Stat(b)
	return err == nil && other == nil && os.SameFile(x, y)
}
