package device

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// fileID is what makes a file the same one, whatever its names.
type fileID struct{ dev, inode uint64 }

func idOf(path string) (fileID, bool) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return fileID{}, false
	}
	return fileID{uint64(st.Dev), st.Ino}, true
}

// backing lists the files that a device keeps its bytes in: of a loop device, also below partitions and what is stacked (dm, md). The
// kernel tells them by number, or, to who may not open the device, by name.
func (s system) backing(dir string) []fileID {
	var files []fileID
	seen := map[string]bool{}
	var walk func(dir string)
	walk = func(dir string) {
		if seen[dir] {
			return
		}
		seen[dir] = true
		if line(dir, "partition") != "" {
			walk(filepath.Dir(dir))
		}
		slaves, _ := filepath.Glob(filepath.Join(dir, "slaves/*"))
		for _, slave := range slaves {
			if target, err := filepath.EvalSymlinks(slave); err == nil {
				walk(target)
			}
		}
		path := line(dir, "loop/backing_file")
		if path == "" {
			return
		}
		if id, ok := idOf(path); ok {
			files = append(files, id)
		}
		if f, err := os.Open(filepath.Join("/dev", filepath.Base(dir))); err == nil {
			if info, err := unix.IoctlLoopGetStatus64(int(f.Fd())); err == nil {
				files = append(files, fileID{info.Device, info.Inode})
			}
			_ = f.Close() // nothing was written
		}
		if below, err := filepath.EvalSymlinks(filepath.Join(s.sys, "dev/block", numberOf(path))); err == nil && numberOf(path) != "" {
			walk(below) // a loop device on a block device
		}
	}
	walk(dir)
	return files
}

// checkSource refuses to write an image over itself: its first MiB is cleared before it is read.
func (s Spec) checkSource() error {
	info, err := s.Image.Stat()
	if err != nil {
		return fmt.Errorf("look at the image: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("look at the image: it has no number on this system")
	}
	image := fileID{uint64(st.Dev), st.Ino}
	if s.Target.File {
		if id, ok := idOf(s.Target.Path); ok && id == image {
			return fmt.Errorf("%s is the image itself: name another file", s.Target.Path)
		}
	}
	for _, id := range s.Target.backing {
		if id == image {
			return fmt.Errorf("what is written to %s goes into the image itself, which is the file behind it: name another device", s.Target.Path)
		}
	}
	return nil
}

// errItself is told of by what happened, where the kernel could not be asked: a network block device, a loop device below an overlay. Nothing is lost.
var errItself = errors.New("what is written there goes into the image itself: it was put back as it was; name another device")

// clearedSource reports whether the clearing of the target has cleared the image.
func (s Spec) clearedSource() bool {
	file, ok := s.Image.(io.ReaderAt)
	if !ok {
		return false // what is packed does not fit its own device, and a read of it will fail
	}
	now := make([]byte, len(s.Image.Head()))
	_, err := file.ReadAt(now, 0)
	return err == nil && !bytes.Equal(now, s.Image.Head()) && bytes.Equal(now, make([]byte, len(now)))
}
