package initramfs

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/mkuimage/cpio"
)

// prebuilt holds what initramfs/release built: ARCH/{init.cpio,rescue.cpio,veneer}.zst. The archives are parts of an initramfs
// as they are, so that a build need not compress them again.
//
//go:embed all:prebuilt
var prebuilt embed.FS

// maxPrebuilt bounds a program, unpacked.
const maxPrebuilt = 64 << 20

// Prebuilt returns a program that was built beforehand for an architecture (Go's name), unpacked: init, the PID 1; veneer, the
// command for the running machine; rescue.cpio, the archive of the rescue shell and its commands.
func Prebuilt(arch, name string) ([]byte, error) {
	if name != "init" {
		return unpacked(arch, name)
	}
	archive, err := unpacked(arch, Local.Archive())
	if err != nil {
		return nil, err
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(archive)))
	if err != nil {
		return nil, fmt.Errorf("prebuilt init for %s: %w", arch, err)
	}
	for _, r := range records {
		if r.Name == "init" {
			return io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
		}
	}
	return nil, fmt.Errorf("prebuilt init for %s: no init in its archive", arch)
}

// prebuiltArchive returns a part of an initramfs as it was packed.
func prebuiltArchive(arch, name string) (Packed, error) {
	packed, err := packedProgram(arch, name)
	if err != nil {
		return Packed{}, err
	}
	var head zstd.Header
	if err := head.Decode(packed); err != nil || !head.HasFCS {
		return Packed{}, fmt.Errorf("prebuilt %s for %s does not tell its size: run 'make build'", name, arch)
	}
	return Packed{Packed: packed, Raw: int64(head.FrameContentSize)}, nil
}

func unpacked(arch, name string) ([]byte, error) {
	packed, err := packedProgram(arch, name)
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	plain, err := io.ReadAll(io.LimitReader(z, maxPrebuilt))
	if err != nil {
		return nil, fmt.Errorf("unpack prebuilt %s for %s: %w", name, arch, err)
	}
	return plain, nil
}

func packedProgram(arch, name string) ([]byte, error) {
	packed, err := prebuilt.ReadFile("prebuilt/" + arch + "/" + name + ".zst")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("this command was built without %s for %s: run 'make build'", name, arch)
	}
	return packed, err
}
