package build

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/images"
	"veneer/initramfs"
)

// What a boot makes, checks and opens for a state, it does with programs of the base and modules of the kernel (docs/state-disk.md).
// What is never there is an error of the build; what only some machines would miss is a note.

// programDirs are where the boot looks for a program of the base, see package stage/keeper/disk.
var programDirs = []string{"usr/sbin", "usr/bin", "sbin", "bin"}

// makers and checkers are programs by file system; each comes with the Debian package that has it.
var (
	makers   = map[string][2]string{"ext4": {"mkfs.ext4", "e2fsprogs"}, "btrfs": {"mkfs.btrfs", "btrfs-progs"}, "xfs": {"mkfs.xfs", "xfsprogs"}}
	checkers = map[string][2]string{"ext4": {"e2fsck", "e2fsprogs"}, "btrfs": {"btrfs", "btrfs-progs"}, "xfs": {"xfs_repair", "xfsprogs"}}
)

// tpmFiles are what cryptsetup and systemd-cryptenroll load to talk to a TPM.
var tpmFiles = []struct{ name, pkg string }{
	{"libcryptsetup-token-systemd-tpm2.so", "systemd-cryptsetup (Debian 12: systemd)"},
	{"libtss2-esys.so", "libtss2-esys-3.0.2-0"}, {"libtss2-mu.so", "libtss2-mu"}, {"libtss2-rc.so", "libtss2-rc0"}, {"libtss2-tcti-device.so", "libtss2-tcti-device0"},
}

// stateFits holds what is said of the state against the tree of the base.
func (b *builder) stateFits() error {
	c := &b.spec.Config
	base := b.baseTree()
	if base == nil || !c.hasState() {
		return nil
	}
	s := c.State
	place, err := boot.ParsePlace(s.Place)
	if err != nil {
		return err
	}
	made := place.Kind == boot.StateOnDevice && c.statePolicy().Create
	var errs []error
	lacks := func(key, what, name, pkg, or string) {
		errs = append(errs, fmt.Errorf("%s: %s with %s, which %s does not have: add the Debian package %s to the tree, or %s", key, what, name, base.Source, pkg, or))
	}
	note := func(format string, args ...any) {
		b.report.Notes = append(b.report.Notes, fmt.Sprintf(format, args...))
	}
	fsType := s.FileSystem
	if place.Kind == boot.StateInStore {
		fsType = "ext4"
	}
	ext4, ownStore := makers["ext4"], place.Kind == boot.StateInStore && (c.has(OutputStore) || c.has(OutputDisk)) // which is ext4
	switch m := makers[fsType]; {
	case made && !base.hasProgram(m[0]):
		lacks("state.filesystem", fmt.Sprintf("%s is made", fsType), m[0], m[1], "take a file system that it can make, or leave out state.create")
	case !made && !ownStore && !base.hasProgram(ext4[0]):
		note("state.place: on vfat, exfat or ntfs the state is a file, made with %s of the package %s, which the base does not have: no boot succeeds with such a place", ext4[0], ext4[1])
	}
	if f := checkers[fsType]; !base.hasProgram(f[0]) {
		note("state.place: a damaged %s is checked with %s of the package %s, which the base does not have: a boot that finds one fails", fsType, f[0], f[1])
	}
	if s.Unlock == "" || s.Unlock == images.UnlockNone {
		return errors.Join(errs...)
	}
	if !base.hasProgram("cryptsetup") {
		lacks("state.unlock", "an encrypted state is opened", "cryptsetup", "cryptsetup-bin", "set state.unlock = \"none\"")
	}
	if s.Unlock == images.UnlockTPM2 {
		if made && !base.hasProgram("systemd-cryptenroll") {
			lacks("state.unlock", "the TPM is given a key", "systemd-cryptenroll", "systemd-cryptsetup (Debian 12: systemd)", "take another state.unlock")
		}
		for _, f := range tpmFiles {
			if !base.hasLibrary(f.name) {
				lacks("state.unlock", "the TPM is asked", f.name, f.pkg, "take another state.unlock")
			}
		}
	}
	return errors.Join(errs...)
}

// kernelFits holds what is said of the state against the modules that its boot can load: those of the initramfs, and those of the base.
func (b *builder) kernelFits() error {
	c := &b.spec.Config
	base := b.baseTree()
	if base == nil || !c.hasState() {
		return nil
	}
	var errs []error
	need := func(key, module string) {
		policy := initramfs.Policy{Kind: c.Kernel.Modules.Policy, Modules: c.Kernel.Modules.List}
		file, builtin := b.kernel.Has(module)
		switch {
		case builtin:
		case !file:
			errs = append(errs, fmt.Errorf("%s: kernel %s has %s neither as a module nor built in: take another kernel in kernel.from, or leave out what needs it", key, b.kernel.Release, module))
		case policy.Takes(module, b.kernel.Arch):
		case !base.hasModule(b.kernel.Release, module):
			errs = append(errs, fmt.Errorf("%s: the module %s is not in the initramfs, and %s does not have it in /lib/modules/%s with a modules.dep: install the kernel's package in the tree, or name the module in kernel.modules.list with policy = \"list\"",
				key, module, base.Source, b.kernel.Release))
		case !base.hasProgram("modprobe"):
			errs = append(errs, fmt.Errorf("%s: the module %s is loaded with modprobe, which %s does not have: add the Debian package kmod to the tree", key, module, base.Source))
		}
	}
	if c.State.Unlock != "" && c.State.Unlock != images.UnlockNone {
		need("state.unlock", "dm_crypt")
		if file, _ := b.kernel.Has("xts"); file { // the cipher that cryptsetup takes; a list of what is built in may not name it
			need("state.unlock", "xts")
		}
	}
	if c.statePolicy().Create {
		need("state.filesystem", c.State.FileSystem)
	}
	return errors.Join(errs...)
}

// baseTree is the tree of the base; nil where its scan has failed.
func (b *builder) baseTree() *Tree {
	for _, j := range b.jobs {
		if j.role == images.RoleBase && j.tree != nil && j.tree.content != nil {
			return j.tree
		}
	}
	return nil
}

func (t *Tree) hasProgram(name string) bool {
	return slices.ContainsFunc(programDirs, func(dir string) bool {
		_, e, err := stack{t}.resolve(path.Join("/", dir, name))
		return err == nil && e.kind() == unix.S_IFREG && e.Mode&0o111 != 0
	})
}

// hasLibrary reports whether there is a shared library, with whatever behind its name, where the linker looks or deeper: token handlers
// of cryptsetup have a directory of their own.
func (t *Tree) hasLibrary(name string) bool {
	return slices.ContainsFunc(t.Entries, func(e *Entry) bool {
		top, _, _ := strings.Cut(strings.TrimPrefix(e.Path, "usr/"), "/")
		return strings.HasPrefix(top, "lib") && !e.isDir() && strings.HasPrefix(path.Base(e.Path), name)
	})
}

// hasModule reports whether modprobe would find a module of a kernel.
func (t *Tree) hasModule(release, name string) bool {
	for _, dir := range []string{"usr/lib/modules/", "lib/modules/"} {
		dir += release + "/"
		if t.lookup(dir+"modules.dep") == nil && t.lookup(dir+"modules.dep.bin") == nil {
			continue
		}
		if slices.ContainsFunc(t.Entries, func(e *Entry) bool {
			base, _, ok := strings.Cut(path.Base(e.Path), ".ko")
			return ok && strings.HasPrefix(e.Path, dir) && strings.ReplaceAll(base, "-", "_") == name
		}) {
			return true
		}
	}
	return false
}
