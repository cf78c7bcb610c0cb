package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"veneer/images"
	"veneer/initramfs"
)

// openKernel finds the kernel, and with it the architecture.
func (b *builder) openKernel(ctx context.Context) (err error) {
	c := b.spec.Config
	switch archive, ok := b.jobs[0].tree.content.(tarSource); {
	case c.Kernel.From != FromTree:
		b.kernel, err = initramfs.OpenKernel(ctx, c.Kernel.From, c.Kernel.ModulesDir)
	case ok:
		if b.kernel, err = initramfs.OpenKernelTar(ctx, io.NewSectionReader(archive.f, 0, math.MaxInt64)); err != nil {
			err = fmt.Errorf("kernel of %s: %w", c.Source, err)
		}
	default:
		b.kernel, err = initramfs.OpenKernelTree(c.Source)
	}
	if err != nil {
		return err
	}
	if c.Architecture != "" && c.Architecture != b.kernel.Arch {
		return fmt.Errorf("architecture = %q, but kernel %s is for %s", c.Architecture, b.kernel.Release, b.kernel.Arch)
	}
	return errors.Join(b.checkInitArch(), b.kernelFits())
}

// makeBoot stages kernel and initramfs.
func (b *builder) makeBoot(ctx context.Context, m *images.Manifest) error {
	image, _, err := b.kernel.Image()
	if err != nil {
		return err
	}
	kernel, err := b.stage.hashed(outKernel, func(w io.Writer) error {
		_, err := io.Copy(w, contextReader{ctx, image})
		return err
	})
	if err = errors.Join(err, image.Close()); err != nil {
		return fmt.Errorf("kernel image: %w", err)
	}
	m.Kernel = images.Kernel{Release: b.kernel.Release, File: kernel}
	m.Initramfs, err = b.stage.hashed(outInitramfs, func(w io.Writer) error {
		var err error
		b.report.Initramfs, err = initramfs.Build(ctx, w, b.initramfs())
		return err
	})
	return err
}

// initramfs says what goes into the initramfs.
func (b *builder) initramfs() initramfs.Spec {
	c := b.spec.Config
	need := []string{c.FileSystem.Type}
	if c.Tools && c.FileSystem.Type != Squashfs {
		need = append(need, Squashfs)
	}
	defaults := []string{"veneer.store=" + quoteWord(c.Store), "veneer.on-fail=" + c.Root.OnFail}
	if c.Wait != "" {
		defaults = append(defaults, "veneer.wait="+c.Wait)
	}
	for _, said := range c.liveDefaults() {
		defaults = append(defaults, said.word)
	}
	return initramfs.Spec{
		Kernel: b.kernel, Need: need, Keys: b.keys, Defaults: strings.Join(defaults, " "),
		Policy:        initramfs.Policy{Kind: c.Kernel.Modules.Policy, Modules: c.Kernel.Modules.List, Media: c.variant() != initramfs.Local, Network: c.variant() == initramfs.Net},
		AllowUnsigned: c.AllowUnsigned, Pins: c.Pins, RescueShell: c.RescueShell, TPM: c.Trust.TPM, Variant: c.variant(), Init: b.spec.init,
	}
}
