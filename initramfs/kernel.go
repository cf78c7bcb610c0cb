package initramfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Kernel is a kernel image with the modules that were built for it. Close it when the initramfs is built.
type Kernel struct {
	Release string // as uname -r prints it
	Arch    string // Go's name: amd64, arm64

	image   func() (fs.File, error)
	modules *tree // nil for a kernel that came without: everything is then taken to be built in
	closers []func() error
}

// ErrNoKernel says that a tree, an archive or a package holds no kernel image. The caller may have another place to look.
var ErrNoKernel = errors.New("no kernel image (boot/vmlinuz-RELEASE or lib/modules/RELEASE/vmlinuz); install a kernel package, or name a kernel in veneer.toml")

// OpenKernel opens the kernel that source names: a directory (a root file system tree), a linux-image .deb, or an image file,
// whose modules lie in the directory modules (a lib/modules/RELEASE; "" for a kernel without modules). The modules of a tree
// and of a package are their own, and modules must be "".
func OpenKernel(ctx context.Context, source, modules string) (*Kernel, error) {
	info, err := os.Stat(source)
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	own := info.IsDir() || strings.HasSuffix(source, ".deb")
	switch {
	case own && modules != "":
		return nil, fmt.Errorf("kernel %s brings its own modules: leave out the modules directory %s", source, modules)
	case info.IsDir():
		return OpenKernelTree(source)
	case own:
		return OpenKernelDeb(ctx, source)
	}
	return OpenKernelImage(source, modules)
}

// OpenKernelTree opens the one kernel of a root file system tree. Links that lead out of the tree are not followed. More than
// one kernel is an error that lists them.
func OpenKernelTree(dir string) (*Kernel, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	k, err := kernelOf(root.FS())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("kernel of %s: %w", dir, err), root.Close())
	}
	k.closers = append(k.closers, root.Close)
	return k, nil
}

// OpenKernelImage opens a kernel image whose modules lie in the directory modules, or nowhere.
func OpenKernelImage(image, modules string) (*Kernel, error) {
	open := func() (fs.File, error) { return os.Open(image) }
	h, err := headerOf(open)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", image, err)
	}
	k := &Kernel{Release: h.Release, Arch: h.Arch, image: open}
	if modules == "" {
		if k.Release == "" {
			return nil, fmt.Errorf("kernel %s does not tell its release: name its modules directory, whose last element is the release", image)
		}
		return k, nil
	}
	if k.Release == "" {
		k.Release = filepath.Base(filepath.Clean(modules))
	}
	if k.modules, err = openTree(os.DirFS(modules), k.Release); err != nil {
		return nil, fmt.Errorf("modules of kernel %s in %s: %w", image, modules, err)
	}
	return k, nil
}

// kernelOf finds the one kernel in a root file system.
func kernelOf(root fs.FS) (*Kernel, error) {
	images, err := kernelImages(root)
	if err != nil {
		return nil, err
	}
	switch len(images) {
	case 0:
		return nil, ErrNoKernel
	case 1:
	default:
		return nil, fmt.Errorf("%d kernels, of which one must be chosen: %s; remove the others, or name one with its modules in veneer.toml",
			len(images), strings.Join(images, ", "))
	}
	image := images[0]
	open := func() (fs.File, error) { return root.Open(image) }
	h, err := headerOf(open)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", image, err)
	}
	k := &Kernel{Release: h.Release, Arch: h.Arch, image: open}
	if k.Release == "" {
		k.Release = releaseOfPath(image)
	}
	for _, dir := range []string{"usr/lib/modules", "lib/modules"} {
		sub, err := fs.Sub(root, path.Join(dir, k.Release))
		if err != nil {
			return nil, fmt.Errorf("%s: release %q: %w", image, k.Release, err)
		}
		if info, err := fs.Stat(sub, "."); err != nil || !info.IsDir() {
			continue
		}
		if k.modules, err = openTree(sub, k.Release); err != nil {
			return nil, fmt.Errorf("%s/%s: %w", dir, k.Release, err)
		}
		return k, nil
	}
	return nil, fmt.Errorf("%s is kernel %s, but there is no lib/modules/%s: install its modules", image, k.Release, k.Release)
}

// kernelImages lists the kernels: those of /boot, and where there is none, those that lie beside their modules.
func kernelImages(root fs.FS) ([]string, error) {
	for _, pattern := range []string{"boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz", "lib/modules/*/vmlinuz"} {
		images, err := fs.Glob(root, pattern)
		if err != nil {
			return nil, err
		}
		images = slices.DeleteFunc(images, func(name string) bool {
			info, err := fs.Stat(root, name)
			return err != nil || !info.Mode().IsRegular()
		})
		if len(images) > 0 {
			return images, nil
		}
	}
	return nil, nil
}

// releaseOfPath tells the release by where an image lies: boot/vmlinuz-RELEASE, lib/modules/RELEASE/vmlinuz.
func releaseOfPath(image string) string {
	if release, ok := strings.CutPrefix(path.Base(image), "vmlinuz-"); ok {
		return release
	}
	return path.Base(path.Dir(image))
}

func headerOf(open func() (fs.File, error)) (Header, error) {
	f, err := open()
	if err != nil {
		return Header{}, err
	}
	defer f.Close()
	r, ok := f.(io.ReaderAt)
	if !ok {
		return Header{}, fmt.Errorf("cannot be read at random: %T", f)
	}
	return ReadHeader(r)
}

// Has reports whether the kernel has a module as a file, or built in: a kernel that came without modules has everything built in.
func (k *Kernel) Has(module string) (file, builtin bool) {
	if k.modules == nil {
		return false, true
	}
	_, file = k.modules.files[canonical(module)]
	return file, k.modules.builtin[canonical(module)]
}

// Image opens the kernel image, and tells its size.
func (k *Kernel) Image() (io.ReadCloser, int64, error) {
	f, err := k.image()
	if err != nil {
		return nil, 0, fmt.Errorf("kernel image: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("kernel image: %w", err), f.Close())
	}
	return f, info.Size(), nil
}

// Close releases what the kernel was read from, and removes what was unpacked of it.
func (k *Kernel) Close() error {
	var errs []error
	for i := len(k.closers) - 1; i >= 0; i-- {
		errs = append(errs, k.closers[i]())
	}
	k.closers = nil
	return errors.Join(errs...)
}
