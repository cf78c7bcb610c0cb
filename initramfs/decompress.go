package initramfs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// The first bytes of the formats that modules, kernels and packages are compressed with.
var (
	magicGzip = []byte{0x1f, 0x8b}
	magicXz   = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	magicZstd = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// maxDecoder bounds the memory of one zstd decoder: the largest window that the kernel itself accepts for a module is 128 MiB.
const maxDecoder = 128 << 20

// decompress returns what r holds, unpacked if its first bytes are those of gzip, xz or zstd. Close ends it; it does not close r.
func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(len(magicXz))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, magicGzip):
		return gzip.NewReader(b)
	case bytes.HasPrefix(head, magicXz):
		x, err := xz.NewReader(b)
		return io.NopCloser(x), err
	case bytes.HasPrefix(head, magicZstd):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxDecoder))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(b), nil
}

// decompressLarge is decompress for archives. It runs the xz program where there is one, which is fifteen times as fast as the
// package for Go, and gives the same bytes.
func decompressLarge(ctx context.Context, r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(len(magicXz))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	program, err := exec.LookPath("xz")
	if err != nil || !bytes.HasPrefix(head, magicXz) {
		return decompress(b)
	}
	cmd := exec.CommandContext(ctx, program, "-dc", "-T0")
	cmd.Stdin = b
	p := &process{cmd: cmd}
	cmd.Stderr = &p.stderr
	if p.ReadCloser, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return p, nil
}

// process is the output of a program. Read turns a failure of the program into an error where the output ends; Close ends the
// program if it is still at work.
type process struct {
	io.ReadCloser
	cmd    *exec.Cmd
	stderr bytes.Buffer
	ended  bool
}

func (p *process) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	if errors.Is(err, io.EOF) && !p.ended {
		p.ended = true
		if werr := p.cmd.Wait(); werr != nil {
			return n, fmt.Errorf("%s: %w: %s", p.cmd.Path, werr, bytes.TrimSpace(p.stderr.Bytes()))
		}
	}
	return n, err
}

func (p *process) Close() error {
	if p.ended {
		return nil
	}
	p.ended = true
	_ = p.cmd.Process.Kill() // its output is not wanted any more, and neither is the reason for its end
	_ = p.cmd.Wait()
	return nil
}
