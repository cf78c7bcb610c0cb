package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// chunk is how much is read at a time: large enough that no medium waits for us, and a multiple of any sector.
const chunk = 1 << 20

// source is a file that is read once, past the page cache: a second copy of what is to fill the memory has no room there. Where
// the file system cannot do direct I/O (isofs, squashfs) what was read is dropped from the cache at once.
type source struct {
	name   string
	fd     int
	direct bool
}

func openSource(name string) (*source, error) {
	// Without O_NONBLOCK the open of a fifo of that name would wait for ever.
	const flags = unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK
	fd, err := unix.Open(name, flags|unix.O_DIRECT, 0)
	direct := err == nil
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.Open(name, flags, 0)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &source{name, fd, direct}, nil
}

// Close closes the file.
func (s *source) Close() error { return unix.Close(s.fd) }

// holds reports why the file is not a regular one of that size, if it is not.
func (s *source) holds(size int64) error {
	var st unix.Stat_t
	if err := unix.Fstat(s.fd, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: s.name, Err: err}
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG {
		return fmt.Errorf("image %s is not a regular file (type %#o)", s.name, kind)
	}
	if st.Size != size {
		return fmt.Errorf("image %s has %d bytes, the manifest says %d: the copy is incomplete or not the one that was signed", s.name, st.Size, size)
	}
	return nil
}

// piece is what one read gave.
type piece struct {
	buf []byte // all of it
	n   int
	err error
}

// each calls take for the pieces of the file, in order. While one is taken the next is read, so that the medium never waits.
func (s *source) each(ctx context.Context, size int64, take func([]byte) error) error {
	// Direct I/O wants aligned memory, and pages are.
	room, err := unix.Mmap(-1, 0, 2*chunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("memory to read %s: %w", s.name, err)
	}
	free, full := make(chan []byte, 2), make(chan piece, 2)
	free <- room[:chunk:chunk]
	free <- room[chunk:]
	go func() {
		defer close(full)
		for at := int64(0); at < size; {
			buf, more := <-free
			if !more {
				return
			}
			n, err := s.read(buf[:min(chunk, (size-at+alignment-1)/alignment*alignment)], at)
			n = int(min(int64(n), size-at))
			full <- piece{buf, n, err}
			if err != nil {
				return
			}
			at += int64(n)
		}
	}()
	for p := range full {
		if err = p.err; err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = take(p.buf[:p.n])
		}
		if err != nil {
			break
		}
		free <- p.buf
	}
	close(free)
	for range full { // the reader is at its last piece: its memory must not go before it has ended
	}
	return errors.Join(err, unix.Munmap(room))
}

// alignment of direct I/O: the largest sector that there is.
const alignment = 4096

// read fills buf, up to the end of the file.
func (s *source) read(buf []byte, at int64) (int, error) {
	for done := 0; ; {
		n, err := unix.Pread(s.fd, buf[done:], at+int64(done))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EINVAL) && s.direct: // the file system takes the flag, and then not the sector
			if err := s.buffered(); err != nil {
				return done, err
			}
			continue
		case err != nil:
			return done, &fs.PathError{Op: fmt.Sprintf("read at byte %d", at+int64(done)), Path: s.name, Err: err}
		case n == 0 && done == 0:
			return 0, &fs.PathError{Op: fmt.Sprintf("read at byte %d", at), Path: s.name, Err: io.ErrUnexpectedEOF}
		}
		if done += n; n == 0 || done == len(buf) {
			if !s.direct {
				_ = unix.Fadvise(s.fd, at, int64(done), unix.FADV_DONTNEED) // else it only costs memory, which the kernel takes back
			}
			return done, nil
		}
	}
}

func (s *source) buffered() error {
	flags, err := unix.FcntlInt(uintptr(s.fd), unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(s.fd), unix.F_SETFL, flags&^unix.O_DIRECT)
	}
	if err != nil {
		return os.NewSyscallError("leave direct I/O", err)
	}
	s.direct = false
	return nil
}
