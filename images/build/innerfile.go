package build

import (
	"io"
	"io/fs"
	"path"
	"time"
)

// innerFile is what a file or directory in the file system of an image says of itself, as fs.File, fs.FileInfo and fs.DirEntry.
type innerFile struct {
	name    string // from the root of the file system
	mode    fs.FileMode
	size    int64
	offset  int64       // of Read
	content io.ReaderAt // of all of it
}

func (f *innerFile) Close() error               { return nil }
func (f *innerFile) Stat() (fs.FileInfo, error) { return f, nil }
func (f *innerFile) Name() string               { return path.Base(f.name) }
func (f *innerFile) Size() int64                { return f.size }
func (f *innerFile) Mode() fs.FileMode          { return f.mode }
func (f *innerFile) ModTime() time.Time         { return time.Time{} }
func (f *innerFile) IsDir() bool                { return f.mode.IsDir() }
func (f *innerFile) Sys() any                   { return nil }
func (f *innerFile) Type() fs.FileMode          { return f.mode }
func (f *innerFile) Info() (fs.FileInfo, error) { return f, nil }

func (f *innerFile) Read(b []byte) (int, error) {
	n, err := f.content.ReadAt(b[:min(int64(len(b)), max(0, f.size-f.offset))], f.offset)
	f.offset += int64(n)
	if n == 0 && err == nil && len(b) > 0 {
		err = io.EOF
	}
	return n, err
}
