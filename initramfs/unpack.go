package initramfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// maxUnpacked bounds what is written to the scratch directory: Debian's full kernel is 400 MB.
const maxUnpacked = 4 << 30

// OpenKernelDeb opens the kernel of a linux-image package. Image and modules are unpacked into a scratch directory, which Close
// removes. Neither dpkg nor depmod is needed.
func OpenKernelDeb(ctx context.Context, deb string) (*Kernel, error) {
	f, err := os.Open(deb)
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	defer f.Close()
	data, err := debData(f)
	if err != nil {
		return nil, fmt.Errorf("kernel package %s: %w", deb, err)
	}
	k, err := OpenKernelTar(ctx, data)
	if err != nil {
		return nil, fmt.Errorf("kernel package %s: %w", deb, err)
	}
	return k, nil
}

// OpenKernelTar opens the one kernel of a root file system that r holds as a tar archive, packed or not. Image and modules are
// unpacked into a scratch directory, which Close removes.
func OpenKernelTar(ctx context.Context, r io.Reader) (_ *Kernel, err error) {
	scratch, err := os.MkdirTemp("", "veneer-kernel-")
	if err != nil {
		return nil, err
	}
	remove := func() error { return os.RemoveAll(scratch) }
	defer func() {
		if err != nil {
			err = errors.Join(err, remove())
		}
	}()
	plain, err := decompressLarge(ctx, r)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	if err := unpackKernel(ctx, plain, scratch); err != nil {
		return nil, err
	}
	k, err := OpenKernelTree(scratch)
	if err != nil {
		return nil, err
	}
	k.closers = append([]func() error{remove}, k.closers...)
	return k, nil
}

// debData returns the member of a package that holds its files. The format is that of deb(5): an ar archive.
func debData(r io.Reader) (io.Reader, error) {
	const magic, header = "!<arch>\n", 60
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != magic {
		return nil, errors.New("not a Debian package: no ar header")
	}
	for {
		entry := make([]byte, header)
		if _, err := io.ReadFull(r, entry); err != nil {
			return nil, errors.New("no data.tar in the package: it is cut, or of another kind")
		}
		name := strings.TrimRight(strings.TrimSpace(string(entry[:16])), "/")
		size, err := strconv.ParseInt(strings.TrimSpace(string(entry[48:58])), 10, 64)
		if err != nil || size < 0 || !bytes.Equal(entry[58:], []byte("`\n")) {
			return nil, fmt.Errorf("ar header of member %q cannot be read", name)
		}
		if strings.HasPrefix(name, "data.tar") {
			return io.LimitReader(r, size), nil
		}
		if _, err := io.CopyN(io.Discard, r, size+size%2); err != nil {
			return nil, fmt.Errorf("member %s: %w", name, err)
		}
	}
}

// unpackKernel writes what OpenKernelTree looks at into dir, and leaves the rest. Nothing is written outside of dir, whatever
// the names in the archive.
func unpackKernel(ctx context.Context, r io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	left := int64(maxUnpacked)
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		name := path.Clean(strings.TrimLeft(h.Name, "/"))
		if h.Typeflag != tar.TypeReg || !ofKernel(name) {
			continue
		}
		if left -= h.Size; left < 0 {
			return fmt.Errorf("unpack %s: more than %d bytes of kernel and modules", name, int64(maxUnpacked))
		}
		if err := unpackFile(root, name, t); err != nil {
			return fmt.Errorf("unpack %s: %w", name, err)
		}
	}
}

// ofKernel reports whether a path belongs to what a kernel package brings for booting.
func ofKernel(name string) bool {
	if !filepath.IsLocal(name) {
		return false
	}
	if ok, _ := path.Match("boot/vmlinuz-*", name); ok {
		return true
	}
	rest, ok := strings.CutPrefix(strings.TrimPrefix(name, "usr/"), "lib/modules/")
	if !ok {
		return false
	}
	base := path.Base(rest)
	return isModule(base) || base == "vmlinuz" || strings.HasPrefix(base, "modules.builtin")
}

func unpackFile(root *os.Root, name string, r io.Reader) (err error) {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, r)
	return err
}
