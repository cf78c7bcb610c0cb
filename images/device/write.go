package device

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/initramfs/machine/probe"
)

// Spec says what to write where.
type Spec struct {
	Image     Image
	Target    Target
	Partition bool // a partition is meant
	KeepState bool // partitions behind the image keep their content and their entries
	NoVerify  bool
	Progress  func(what string, done, total int64) // bytes; may be nil
}

// ErrIncomplete means that the device holds neither what it held before nor all of the image.
var ErrIncomplete = errors.New("it is incomplete, and nothing can be started from it: write it again")

// The pieces in which is written: large enough for flash, and what is not yet on the device is bounded, so that the progress is true and
// an error tells where.
const (
	chunk     = 4 << 20
	syncEvery = 8 // chunks
)

// Check reports everything that speaks against it. Nothing is written.
func (s Spec) Check() error {
	t := s.Target
	var errs []error
	if len(t.InUse) > 0 {
		errs = append(errs, fmt.Errorf("%s is in use: %s", t.Path, strings.Join(t.InUse, "; ")))
	}
	if t.ReadOnly {
		errs = append(errs, fmt.Errorf("%s is read-only: is there a switch on it?", t.Path))
	}
	if t.Disk != "" && !s.Partition {
		errs = append(errs, fmt.Errorf("%s is a partition of /dev/%s: name the disk, or give --partition if a partition is meant", t.Path, t.Disk))
	}
	errs = append(errs, s.checkSource(), checkFit(s.Image.Head(), s.Image.Size(), t))
	if s.KeepState {
		_, err := s.kept()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Write writes the image to the target:
//
//   - everything that speaks against it is looked for, and the device is opened for this process alone
//   - its first MiB is cleared, so that nothing can be started while it is incomplete; with KeepState it stays, and with it the table
//   - everything but the first MiB is written, and what lay behind it cleared, as far as it could be taken for something
//   - the first MiB is written when all else is on the device
//   - it is read back from the device and compared
//   - the kernel reads the table
//
// The error wraps ErrIncomplete when something was written and not all of it. A file that was made for it is removed then.
func Write(ctx context.Context, s Spec) (err error) {
	if err := s.Check(); err != nil {
		return err
	}
	flags := os.O_RDWR | unix.O_CLOEXEC | unix.O_EXCL
	if s.Target.File {
		flags = os.O_RDWR | unix.O_CLOEXEC
	}
	f, err := os.OpenFile(s.Target.Path, flags, 0)
	made := s.Target.File && errors.Is(err, os.ErrNotExist)
	if made {
		f, err = os.OpenFile(s.Target.Path, flags|os.O_CREATE|os.O_EXCL, 0o644)
	}
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%s is in use by the kernel, which does not say for what (a file system of several devices, or another program that writes to it): %w", s.Target.Path, err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if !s.Target.File && st.Rdev != s.Target.number {
		return fmt.Errorf("%s is another device than a moment ago: look again", s.Target.Path)
	}
	w := writer{f: f, s: s, ctx: ctx}
	err = w.write()
	if errors.Is(err, errItself) {
		return fmt.Errorf("write to %s: %w", s.Target.Path, err)
	}
	if err != nil {
		if made {
			return errors.Join(fmt.Errorf("write to %s: %w; the part of it is removed", s.Target.Path, err), os.Remove(s.Target.Path))
		}
		return fmt.Errorf("write to %s: %w; %w", s.Target.Path, err, ErrIncomplete)
	}
	if !s.NoVerify {
		if err := w.verify(); err != nil {
			return fmt.Errorf("verify %s: %w", s.Target.Path, err)
		}
	}
	if s.Target.File || s.Target.Disk != "" {
		return nil
	}
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: it has no partitions, like a loop device without them
		return fmt.Errorf("%s is written, but the kernel does not read its partition table: %w: pull it out and put it in again", s.Target.Path, err)
	}
	return nil
}

// writer is a write in progress.
type writer struct {
	f    *os.File
	s    Spec
	ctx  context.Context
	sums [][sha256.Size]byte // of each chunk, as it is to be
}

func (w *writer) write() error {
	size := w.s.Image.Size()
	var kept []probe.Write
	if w.s.KeepState {
		var err error
		if kept, err = w.s.kept(); err != nil {
			return err
		}
	} else if err := w.put(make([]byte, min(headSize, size)), 0); err != nil {
		return err
	}
	if err := w.f.Sync(); err != nil {
		return err
	}
	if !w.s.KeepState && w.s.clearedSource() {
		if err := errors.Join(w.put(w.s.Image.Head(), 0), w.f.Sync()); err != nil {
			return err
		}
		return errItself
	}
	var first []byte
	for at := int64(0); at < size; at += chunk {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		buf := make([]byte, min(chunk, size-at))
		if _, err := io.ReadFull(w.s.Image, buf); err != nil {
			return fmt.Errorf("read the image at byte %d: %w", at, err)
		}
		for _, k := range kept {
			if n := k.Offset - at; n >= 0 && n < int64(len(buf)) {
				copy(buf[n:], k.Data)
			}
		}
		w.sums = append(w.sums, sha256.Sum256(buf))
		if at == 0 {
			first = buf[:min(headSize, len(buf))]
			if err := w.put(buf[len(first):], int64(len(first))); err != nil {
				return err
			}
		} else if err := w.put(buf, at); err != nil {
			return err
		}
		if at/chunk%syncEvery == syncEvery-1 {
			if err := unix.Fdatasync(int(w.f.Fd())); err != nil {
				return fmt.Errorf("bytes up to %d: %w", at+int64(len(buf)), err)
			}
		}
		w.progress("write", at+int64(len(buf)))
	}
	if err := w.clearBehind(kept); err != nil {
		return err
	}
	if err := w.f.Sync(); err != nil {
		return err
	}
	if err := w.put(first, 0); err != nil {
		return err
	}
	return w.f.Sync()
}

// clearBehind removes what could be taken for something: a backup of an older table, at the end of the device, and the beginning of what
// lay where the next partition will be made. With partitions that are kept it writes the backup of the new table.
func (w *writer) clearBehind(kept []probe.Write) error {
	size := w.s.Image.Size()
	if w.s.KeepState {
		for _, k := range kept {
			if k.Offset >= size {
				if err := w.put(k.Data, k.Offset); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if w.s.Target.File {
		return nil
	}
	for _, from := range []int64{size, w.s.Target.Size - headSize} {
		from = max(from, size)
		if err := w.put(make([]byte, max(0, min(2*headSize, w.s.Target.Size-from))), from); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) put(b []byte, at int64) error {
	if n, err := w.f.WriteAt(b, at); err != nil {
		return fmt.Errorf("at byte %d: %w", at+int64(n), err)
	}
	return nil
}

func (w *writer) progress(what string, done int64) {
	if w.s.Progress != nil {
		w.s.Progress(what, done, w.s.Image.Size())
	}
}

// verify reads from the device, past the memory that still holds what was written.
func (w *writer) verify() error {
	f, err := os.OpenFile(w.s.Target.Path, os.O_RDONLY|unix.O_CLOEXEC|unix.O_DIRECT, 0)
	direct := err == nil
	if !direct {
		f, err = os.OpenFile(w.s.Target.Path, os.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	// O_DIRECT takes memory that begins at a page.
	buf, err := unix.Mmap(-1, 0, chunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(buf) }() // there is no way in which it could matter
	size := w.s.Image.Size()
	for i, want := range w.sums {
		if err := w.ctx.Err(); err != nil {
			return fmt.Errorf("%w: all of it is written, and not all of it was read back", err)
		}
		at := int64(i) * chunk
		part := buf[:min(chunk, size-at)]
		if !direct {
			_ = unix.Fadvise(int(f.Fd()), at, int64(len(part)), unix.FADV_DONTNEED) // without it memory is compared
		}
		whole := buf[:min(chunk, (len(part)+4095)&^4095)]
		if n, err := f.ReadAt(whole, at); n < len(part) {
			return fmt.Errorf("read at byte %d: %w; %w", at+int64(n), err, ErrIncomplete)
		}
		if sha256.Sum256(part) != want {
			return fmt.Errorf("what it holds from byte %d to %d is not what was written there: it is worn out, or lies about its size; take another", at, at+int64(len(part)))
		}
		w.progress("verify", at+int64(len(part)))
	}
	return nil
}
