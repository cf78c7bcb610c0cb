package device

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

const zstdMagic = "\x28\xb5\x2f\xfd"

// maxWindow bounds the memory that unpacking takes, bytes: what zstd itself takes without being told to (zstd(1), --memory).
const maxWindow = 128 << 20

// unpacked is an image that is unpacked while it is read.
type unpacked struct {
	file *os.File
	zstd *zstd.Decoder
	from io.Reader // the head, then the rest
	size int64
	left int64
	head []byte
}

// openZstd opens a compressed image. Its frame tells the size, as `veneer build` and zstd make it of a file.
func openZstd(f *os.File, begins []byte) (*unpacked, error) {
	var header zstd.Header
	if err := header.Decode(begins); err != nil {
		return nil, fmt.Errorf("%s: zstd: %w", f.Name(), err)
	}
	if !header.HasFCS || header.FrameContentSize > 1<<62 {
		return nil, fmt.Errorf("%s does not tell its size before it is unpacked: zstd -d %[1]s, and write what comes of it", f.Name())
	}
	z, err := zstd.NewReader(f, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(2))
	if err != nil {
		return nil, err
	}
	u := &unpacked{file: f, zstd: z, size: int64(header.FrameContentSize)}
	u.head = make([]byte, min(headSize, u.size))
	if _, err := io.ReadFull(z, u.head); err != nil {
		z.Close()
		return nil, fmt.Errorf("unpack %s: %w: copy it again", f.Name(), short(err))
	}
	u.from, u.left = io.MultiReader(bytes.NewReader(u.head), z), u.size
	return u, nil
}

func (u *unpacked) Size() int64  { return u.size }
func (u *unpacked) Head() []byte { return u.head }

func (u *unpacked) Stat() (os.FileInfo, error) { return u.file.Stat() }

// Read fails where the content is not as long as the frame says.
func (u *unpacked) Read(b []byte) (int, error) {
	n, err := u.from.Read(b)
	u.left -= int64(n)
	switch {
	case err == io.EOF && u.left > 0:
		err = io.ErrUnexpectedEOF
	case u.left < 0:
		err = errors.New("it holds more than it says")
	}
	if err != nil && err != io.EOF {
		err = fmt.Errorf("unpack %s: %w: copy it again", u.file.Name(), err)
	}
	return n, err
}

func (u *unpacked) Close() error {
	u.zstd.Close()
	return u.file.Close()
}

// short is an end that came too early.
func short(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
