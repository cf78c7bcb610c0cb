package build

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"

	"github.com/klauspost/compress/zstd"
)

// archive reads the cpio archives of an initramfs one entry after the other, as the kernel does: several in a row, each of them
// perhaps compressed, with zeros between them. See Documentation/driver-api/early-userspace/buffer-format.rst. It keeps no more
// than one name and the decoder's window in memory, whatever the archive claims.
type archive struct {
	outer    *bufio.Reader // the file
	r        *bufio.Reader // the segment: the file itself, or what is unpacked of it
	close    func()        // ends the decoder
	packed   bool          // r is not the file itself
	format   string        // compression of the last segment that had one
	left     int64         // bytes of the current entry that were not read
	pos      int64         // bytes read of the segment, for the alignment
	unpacked int64         // bytes read of all segments
	entries  int
}

// entry is one entry of a cpio archive.
type entry struct {
	Name string // cleaned, without a slash in front
	Mode uint32 // as st_mode
	Size int64
}

// Limits of what is read of an archive; the kernel has the first one too.
const (
	maxEntryName = 4096
	maxUnpacked  = 512 << 20
	maxEntries   = 100_000
	maxWindow    = 128 << 20 // of the zstd decoder, as the kernel's
)

const (
	newcMagic   = "070701"
	newcCRC     = "070702"
	newcHeader  = 110
	newcTrailer = "TRAILER!!!"
)

func newArchive(r io.Reader) *archive {
	b := bufio.NewReaderSize(r, 64<<10)
	return &archive{outer: b, r: b, close: func() {}}
}

// Next passes over what is left of the current entry and returns the next one. It returns io.EOF at the end of the last archive.
func (a *archive) Next() (entry, error) {
	if err := a.skip(a.left); err != nil {
		return entry{}, err
	}
	a.left = 0
	if err := a.align(); err != nil {
		return entry{}, err
	}
	for {
		e, err := a.header()
		if errors.Is(err, io.EOF) {
			if err = a.segment(); err == nil {
				continue
			}
		}
		if err != nil {
			return entry{}, err
		}
		if e.Name == newcTrailer {
			if err := a.zeros(); err != nil {
				return entry{}, err
			}
			continue
		}
		if a.entries++; a.entries > maxEntries {
			return entry{}, fmt.Errorf("more than %d entries", maxEntries)
		}
		e.Name = path.Clean("/" + e.Name)[1:]
		a.left = e.Size
		return e, nil
	}
}

// Read reads the content of the current entry.
func (a *archive) Read(p []byte) (int, error) {
	if a.left == 0 {
		return 0, io.EOF
	}
	n, err := a.r.Read(p[:min(int64(len(p)), a.left)])
	a.left -= int64(n)
	a.count(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close ends the decoder. It does not close the file.
func (a *archive) Close() { a.close() }

func (a *archive) count(n int) {
	a.pos += int64(n)
	a.unpacked += int64(n)
}

// header reads one header and its name. It returns io.EOF at the end of a segment, which is also where another one begins
// that is compressed.
func (a *archive) header() (entry, error) {
	head, err := a.r.Peek(newcHeader)
	switch {
	case len(head) == 0 && errors.Is(err, io.EOF), !a.packed && compression(head) != "":
		return entry{}, io.EOF
	case err != nil && !errors.Is(err, io.EOF):
		return entry{}, err
	case len(head) < newcHeader:
		return entry{}, fmt.Errorf("cpio header at byte %d is cut: %w", a.pos, io.ErrUnexpectedEOF)
	case string(head[:6]) != newcMagic && string(head[:6]) != newcCRC:
		return entry{}, fmt.Errorf("no cpio header at byte %d", a.pos)
	}
	field := func(i int) int64 {
		n, ferr := strconv.ParseUint(string(head[6+8*i:14+8*i]), 16, 32)
		err = errors.Join(err, ferr)
		return int64(n)
	}
	err = nil
	mode, size, length := field(1), field(6), field(11)
	switch {
	case err != nil:
		return entry{}, fmt.Errorf("cpio header at byte %d: %w", a.pos, err)
	case length < 1 || length > maxEntryName:
		return entry{}, fmt.Errorf("cpio header at byte %d: name of %d bytes", a.pos, length)
	case a.unpacked+size > maxUnpacked:
		return entry{}, fmt.Errorf("cpio header at byte %d: more than %d bytes unpacked", a.pos, maxUnpacked)
	}
	if err := a.skip(newcHeader); err != nil {
		return entry{}, err
	}
	name := make([]byte, length)
	n, err := io.ReadFull(a.r, name)
	a.count(n)
	if err != nil {
		return entry{}, fmt.Errorf("cpio name at byte %d is cut: %w", a.pos, io.ErrUnexpectedEOF)
	}
	return entry{string(bytes.TrimRight(name, "\x00")), uint32(mode), size}, a.align()
}

// segment starts the next archive of the file: it returns io.EOF when there is none.
func (a *archive) segment() error {
	a.close()
	a.close = func() {}
	a.r, a.packed, a.pos = a.outer, false, 0
	head, err := a.outer.Peek(6)
	if len(head) == 0 {
		return err
	}
	format := compression(head)
	switch format {
	case "zstd":
		z, err := zstd.NewReader(a.outer, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return fmt.Errorf("zstd: %w", err)
		}
		a.r, a.close = bufio.NewReaderSize(z, 64<<10), z.Close
	case "gzip":
		z, err := gzip.NewReader(a.outer)
		if err != nil {
			return fmt.Errorf("gzip: %w", err)
		}
		a.r = bufio.NewReaderSize(z, 64<<10)
	default:
		return fmt.Errorf("begins with % x: neither cpio, nor zstd, nor gzip", head)
	}
	a.format, a.packed = format, true
	return nil
}

// align passes over the bytes up to the next multiple of four. An archive may end without them.
func (a *archive) align() error {
	head, err := a.r.Peek(int(-a.pos & 3))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return a.skip(int64(len(head)))
}

// zeros passes over the zeros between two archives.
func (a *archive) zeros() error {
	for {
		if _, err := a.r.Peek(1); errors.Is(err, io.EOF) { // fills the buffer
			return nil
		} else if err != nil {
			return err
		}
		b, err := a.r.Peek(a.r.Buffered())
		if err != nil {
			return err
		}
		n := len(b) - len(bytes.TrimLeft(b, "\x00"))
		if a.unpacked+int64(n) > maxUnpacked {
			return fmt.Errorf("more than %d bytes unpacked", maxUnpacked)
		}
		if err := a.skip(int64(n)); err != nil {
			return err
		}
		if n < len(b) {
			return nil
		}
	}
}

func (a *archive) skip(n int64) error {
	for n > 0 {
		got, err := a.r.Discard(int(min(n, 1<<20)))
		a.count(got)
		n -= int64(got)
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compression names the format that head begins, or is empty.
func compression(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "zstd"
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return "gzip"
	}
	return ""
}
