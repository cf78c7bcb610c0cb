package build

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// compressions are told by their first bytes; a name proves nothing.
var compressions = []struct {
	name  string
	magic []byte
	open  func(io.Reader) (io.Reader, error) // nil for those that are not supported
}{
	{"gzip", []byte{0x1f, 0x8b}, func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
	{"zstd", []byte{0x28, 0xb5, 0x2f, 0xfd}, func(r io.Reader) (io.Reader, error) {
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxMemory(1<<30))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}},
	{"xz", []byte{0xfd, '7', 'z', 'X', 'Z', 0}, func(r io.Reader) (io.Reader, error) { return xz.NewReader(r) }},
	{"bzip2", []byte("BZh"), nil},
	{"lz4", []byte{0x04, 0x22, 0x4d, 0x18}, nil},
}

// openTar opens an archive that is not compressed, or an unlinked copy in scratch that no longer is.
func openTar(ctx context.Context, name, scratch string) (*os.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	head := make([]byte, 8)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	for _, c := range compressions {
		if !bytes.HasPrefix(head[:n], c.magic) {
			continue
		}
		defer f.Close()
		if c.open == nil {
			return nil, fmt.Errorf("%s is compressed with %s; want gzip, zstd, xz or none", name, c.name)
		}
		r, err := c.open(bufio.NewReaderSize(f, 1<<20))
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", name, c.name, err)
		}
		return unpackTo(ctx, r, name, scratch)
	}
	return f, nil
}

// unpackTo copies r into a file in scratch that has no name, and so leaves nothing behind.
func unpackTo(ctx context.Context, r io.Reader, name, scratch string) (*os.File, error) {
	out, err := os.CreateTemp(scratch, "tar-*")
	if err != nil {
		return nil, err
	}
	err = os.Remove(out.Name())
	if err == nil {
		_, err = io.Copy(out, contextReader{ctx, r})
	}
	if err == nil {
		_, err = out.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("unpack %s: %w", name, err), out.Close())
	}
	return out, nil
}

// contextReader fails once its context is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
