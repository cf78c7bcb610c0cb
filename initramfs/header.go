package initramfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Header is what a kernel image says of itself.
type Header struct {
	Arch    string // Go's name: amd64, arm64
	Release string // as uname -r prints it; empty where the image does not tell
}

// Offsets in the images, from the kernel's Documentation/arch/x86/boot.rst and Documentation/arch/arm64/booting.rst, and of the
// self-extracting EFI image from drivers/firmware/efi/libstub/zboot-header.S.
const (
	x86Magic     = 0x202
	x86Version   = 0x20e // where the version string stands, counted from 0x200
	x86LoadFlags = 0x236
	armMagic     = 56
	zbootMagic   = 4
	zbootPayload = 8
	zbootSize    = 12

	headerSize = 0x268
	maxRelease = 64 // __NEW_UTS_LEN of the kernel
	maxKernel  = 512 << 20
)

// ReadHeader tells architecture and release of a kernel image: an x86 bzImage, an arm64 Image, or an arm64 Image packed with
// gzip or as a self-extracting EFI program. It reads at most maxKernel bytes, unpacked ones included.
func ReadHeader(r io.ReaderAt) (Header, error) {
	return readHeader(r, true)
}

func readHeader(r io.ReaderAt, mayBePacked bool) (Header, error) {
	head := make([]byte, headerSize)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return Header{}, err
	}
	head = head[:n]
	switch {
	case at(head, x86Magic, "HdrS"):
		return x86Header(r, head)
	case at(head, armMagic, "ARM\x64"):
		release, err := findBanner(io.NewSectionReader(r, 0, maxKernel))
		return Header{Arch: "arm64", Release: release}, err
	case mayBePacked && at(head, zbootMagic, "zimg") && len(head) >= zbootSize+4:
		offset := int64(binary.LittleEndian.Uint32(head[zbootPayload:]))
		size := int64(binary.LittleEndian.Uint32(head[zbootSize:]))
		return packedHeader(io.NewSectionReader(r, offset, size))
	case mayBePacked && (bytes.HasPrefix(head, magicGzip) || bytes.HasPrefix(head, magicZstd) || bytes.HasPrefix(head, magicXz)):
		return packedHeader(io.NewSectionReader(r, 0, maxKernel))
	}
	return Header{}, errors.New("neither an x86-64 bzImage nor an arm64 Image; uncompressed vmlinux files are not booted, take vmlinuz")
}

func at(head []byte, offset int, magic string) bool {
	return len(head) >= offset+len(magic) && string(head[offset:offset+len(magic)]) == magic
}

func x86Header(r io.ReaderAt, head []byte) (Header, error) {
	const kernel64 = 1 // XLF_KERNEL_64
	if len(head) < x86LoadFlags+2 || binary.LittleEndian.Uint16(head[x86LoadFlags:])&kernel64 == 0 {
		return Header{}, errors.New("an x86 kernel without 64-bit entry: 32-bit kernels are not supported")
	}
	text := make([]byte, maxRelease+1)
	offset := int64(binary.LittleEndian.Uint16(head[x86Version:]))
	if offset == 0 {
		return Header{Arch: "amd64"}, nil
	}
	n, err := r.ReadAt(text, offset+0x200)
	if err != nil && !errors.Is(err, io.EOF) {
		return Header{}, err
	}
	return Header{Arch: "amd64", Release: firstWord(text[:n])}, nil
}

func packedHeader(packed io.Reader) (Header, error) {
	z, err := decompress(packed)
	if err != nil {
		return Header{}, fmt.Errorf("unpack: %w", err)
	}
	defer z.Close()
	image, err := io.ReadAll(io.LimitReader(z, maxKernel))
	if err != nil {
		return Header{}, fmt.Errorf("unpack: %w", err)
	}
	return readHeader(bytes.NewReader(image), false)
}

// findBanner looks for the line that the kernel prints first. An image that hides it (compressed inside) has no release here.
func findBanner(r io.Reader) (string, error) {
	banner := []byte("Linux version ")
	keep := len(banner) + maxRelease
	buf := make([]byte, 0, 256<<10)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		end := err != nil
		for rest := buf; ; {
			i := bytes.Index(rest, banner)
			if i < 0 || !end && len(rest)-i < keep {
				break
			}
			rest = rest[i+len(banner):]
			// The same words stand in format strings: "Linux version %s".
			if word := firstWord(rest[:min(len(rest), maxRelease+1)]); word != "" && word[0] >= '0' && word[0] <= '9' {
				return word, nil
			}
		}
		if errors.Is(err, io.EOF) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		if len(buf) == cap(buf) {
			buf = buf[:copy(buf, buf[len(buf)-keep:])]
		}
	}
}

// firstWord returns the printable characters before the first blank, or nothing if no blank or NUL ends them.
func firstWord(text []byte) string {
	for i, c := range text {
		switch {
		case c == ' ' || c == 0:
			return string(text[:i])
		case c < ' ' || c > '~' || c == '/':
			return ""
		}
	}
	return ""
}
