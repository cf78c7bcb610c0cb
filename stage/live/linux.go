package live

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/images"
	"veneer/images/copyin"
)

// Linux is the real System.
type Linux struct{}

var _ System = Linux{}

// Available implements System with MemAvailable of /proc/meminfo.
func (Linux) Available() (int64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 53)
			return kib << 10, err
		}
	}
	return 0, errors.New("/proc/meminfo does not tell how much memory is available")
}

// Write implements System.
func (Linux) Write(file string, content []byte) error {
	return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, content, 0o444))
}

// Regular implements System.
func (Linux) Regular(file string) error {
	info, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return errors.New("it does not have the file")
	}
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("what it has there is no regular file (%s)", info.Mode().Type())
	}
	return err
}

// AttachFile implements System.
func (Linux) AttachFile(file string) (string, func() error, error) {
	d, err := images.AttachFile(file)
	if err != nil {
		return "", nil, err
	}
	return d.Path, d.Close, nil
}

// cdromEject is CDROMEJECT of linux/cdrom.h.
const cdromEject = 0x5309

// Eject implements System.
func (Linux) Eject(device string) error {
	fd, err := unix.Open(device, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: device, Err: err}
	}
	defer unix.Close(fd)
	if err := unix.IoctlSetInt(fd, cdromEject, 0); err != nil {
		return &fs.PathError{Op: "eject", Path: device, Err: err}
	}
	return nil
}

// Copy implements System. The medium is read once, from the beginning to the end of the image; only where a byte was wrong some of
// it is read again, to tell which.
func (Linux) Copy(ctx context.Context, c Copying) (err error) {
	s, err := openSource(c.From)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.holds(c.Image.Size); err != nil {
		return err
	}
	to, err := os.OpenFile(c.To, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if c.Unverified {
		at := int64(0)
		return s.each(ctx, c.Image.Size, func(b []byte) error {
			n, err := to.Write(b)
			at += int64(n)
			c.Progress(at)
			return err
		})
	}
	defer moreMemory(c.Image.Size / 32)()
	verified, err := copyin.New(to, c.Image)
	if err != nil {
		return err
	}
	verified.Progress = c.Progress
	err = s.each(ctx, c.Image.Size, func(b []byte) error { _, err := verified.Write(b); return err })
	if err == nil {
		err = verified.Finish()
	}
	if errors.Is(err, copyin.ErrWrong) {
		err = errors.Join(err, blame(ctx, verified, c))
	}
	return err
}

// moreMemory lets this process have so much more before it collects garbage: the hashes of a large image are none. PID 1 has a limit.
func moreMemory(bytes int64) (back func()) {
	limit := debug.SetMemoryLimit(-1)
	if limit > 1<<40 {
		return func() {}
	}
	debug.SetMemoryLimit(limit + bytes)
	return func() { debug.SetMemoryLimit(limit) }
}

// blame finds the block that is wrong.
func blame(ctx context.Context, verified *copyin.Copy, c Copying) error {
	from, err := os.Open(c.From)
	if err != nil {
		return err
	}
	defer from.Close()
	return fmt.Errorf("%s: %w", c.From, verified.Blame(ctx, from, func() { c.Progress(0) }))
}
