package build

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// place is where a set of files lies: a directory, or a file system that is not mounted. Files that it opens can be read at any
// offset.
type place interface {
	fs.StatFS
	at(name string) string // for people
}

// directory is a place of the host. Unlike os.DirFS its errors tell the whole path.
type directory string

func (d directory) at(name string) string { return filepath.Join(string(d), name) }

func (d directory) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return os.Open(d.at(name))
}

func (d directory) Stat(name string) (fs.FileInfo, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrInvalid}
	}
	return os.Stat(d.at(name))
}

// readerAtCloser is an open file that is read at several offsets at a time.
type readerAtCloser interface {
	io.ReaderAt
	io.Closer
}

// openIn opens a regular file, and no device or fifo that would not end.
func openIn(in place, name string) (readerAtCloser, int64, error) {
	info, err := in.Stat(name) // before the open, which would wait for the writer of a fifo
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s: not a regular file", in.at(name))
	}
	f, err := in.Open(name)
	if err != nil {
		return nil, 0, err
	}
	return f.(readerAtCloser), info.Size(), nil
}

// readIn reads a regular file of at most limit bytes.
func readIn(in place, name string, limit int64) ([]byte, error) {
	f, size, err := openIn(in, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes", in.at(name), limit)
	}
	text, err := io.ReadAll(io.NewSectionReader(f, 0, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s: larger than %d bytes", in.at(name), limit)
	}
	return text, err
}
