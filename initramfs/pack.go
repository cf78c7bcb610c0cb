package initramfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"strings"

	"github.com/u-root/mkuimage/cpio"
)

// Packed is a compressed archive: a part of an initramfs.
type Packed struct {
	Packed []byte
	Raw    int64 // bytes, unpacked
}

// Compressor is the program that compresses, and the name of its Debian package. Its output depends on its version, which a
// build records as it does for the program that makes the file systems.
const Compressor = "zstd"

// sizes of an archive.
type sizes struct{ raw, packed int64 }

// pack writes an archive of the files and the directories that they need, compressed with zstd. It stops between two files
// when ctx ends.
func pack(ctx context.Context, w io.Writer, level int, records []cpio.Record) (sizes, error) {
	out := &counter{w: w}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// One thread: the bytes must not depend on the number of CPUs.
	cmd := exec.CommandContext(ctx, Compressor, "-q", "-c", "-T1", fmt.Sprintf("-%d", level))
	var complaint strings.Builder
	cmd.Stdout, cmd.Stderr = out, &complaint
	feed, err := cmd.StdinPipe()
	if err != nil {
		return sizes{}, err
	}
	if err := cmd.Start(); err != nil {
		return sizes{}, fmt.Errorf("compress: %w; install the package %s", err, Compressor)
	}
	in := &counter{w: feed}
	werr := errors.Join(WriteArchive(ctx, in, records), feed.Close())
	if werr != nil {
		cancel()
	}
	if err := cmd.Wait(); err != nil {
		return sizes{}, errors.Join(werr, fmt.Errorf("compress: %w: %s", err, strings.TrimSpace(complaint.String())))
	}
	return sizes{raw: in.n, packed: out.n}, werr
}

// WriteArchive writes a newc cpio archive of the files, and in front of the first file of each directory that directory. Times
// and owners are left out, and files are numbered in their order, so that the same records give the same bytes.
func WriteArchive(ctx context.Context, w io.Writer, records []cpio.Record) error {
	archive := cpio.Newc.Writer(w)
	for i, r := range withDirectories(records) {
		if err := ctx.Err(); err != nil {
			return err
		}
		r = cpio.MakeReproducible(r)
		r.Ino, r.NLink = uint64(i+1), 1
		if err := archive.WriteRecord(r); err != nil {
			return fmt.Errorf("archive %s: %w", r.Name, err)
		}
	}
	return cpio.WriteTrailer(archive)
}

// withDirectories puts each directory in front of the first file in it: the kernel makes none by itself.
func withDirectories(records []cpio.Record) []cpio.Record {
	all := []cpio.Record{cpio.Directory(".", 0o755)}
	made := map[string]bool{".": true}
	var mkdir func(dir string)
	mkdir = func(dir string) {
		if !made[dir] {
			made[dir] = true
			mkdir(path.Dir(dir))
			all = append(all, cpio.Directory(dir, 0o755))
		}
	}
	for _, r := range records {
		name := cpio.Normalize(r.Name)
		if r.Mode&cpio.S_IFMT == cpio.S_IFDIR {
			mkdir(name)
			continue
		}
		mkdir(path.Dir(name))
		all = append(all, r)
	}
	return all
}

// file is a regular file of the archive.
func file(name string, perm uint64, content []byte) cpio.Record {
	return cpio.Record{ReaderAt: bytes.NewReader(content),
		Info: cpio.Info{Name: name, Mode: cpio.S_IFREG | perm, FileSize: uint64(len(content))}}
}

// counter counts what goes through it.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
