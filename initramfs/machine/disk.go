package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/images"
	"veneer/images/devmapper"
	"veneer/initramfs/machine/probe"
	"veneer/overlay/entry"
	"veneer/stage"
)

// What is done to a disk is the keeper's (package stage/keeper/disk). Here is what every boot looks at, and what only PID 1 can do
// first: finding devices, loading modules.

// ModulesOf implements stage.StateKeeper.
func (m *Machine) ModulesOf(ctx context.Context, root string, names ...string) error {
	for _, name := range names {
		err := m.modules.Load(name)
		if err == nil {
			continue
		}
		// What few machines need, and none before its base is there, is not in the initramfs.
		if _, berr := m.onDisk(ctx, stage.OpModule, stage.DiskSpec{Root: root, Name: name}); berr != nil {
			return fmt.Errorf("%w, or add the kernel's package to the base: %w", err, berr)
		}
	}
	return nil
}

// Format implements stage.StateMaker.
func (m *Machine) Format(ctx context.Context, root, device, fsType, label string) error {
	_, err := m.onDisk(ctx, stage.OpFormat, stage.DiskSpec{Root: root, Device: device, FileSystem: fsType, Name: label})
	m.forget(device)
	return err
}

// forget makes the next look at the devices read this one again.
func (m *Machine) forget(device string) { delete(m.devices, filepath.Base(device)) }

// Check implements stage.StateKeeper:
//
//	              clean     not clean         mounting failed
//	fsck.mode=skip  -         -                 -
//	fsck.mode=auto  -         checked           checked
//	fsck.mode=force checked   checked           checked
//
// With fsck.repair=no a check that finds anything is an error; xfs and btrfs replay their own logs, and are never "not clean".
func (m *Machine) Check(ctx context.Context, root, device, fsType string, how stage.CheckSpec) (stage.Checked, error) {
	switch fsType {
	case "ext4", "vfat", "exfat", "xfs", "btrfs":
	default:
		return stage.Checked{}, nil
	}
	why := ""
	switch {
	case how.Mode == boot.FsckSkip:
		return stage.Checked{}, nil
	case how.Failed:
		why = "it could not be mounted"
	case how.Mode == boot.FsckForce:
		why = "fsck.mode=force"
	default:
		st, err := stateOf(device, fsType)
		if err != nil {
			return stage.Checked{}, fmt.Errorf("check %s on %s: %w", fsType, device, err)
		}
		why = st.Dirty
	}
	if why == "" {
		return stage.Checked{}, nil
	}
	done, err := m.onDisk(ctx, stage.OpCheck, stage.DiskSpec{Root: root, Device: device, FileSystem: fsType, Check: how, Why: why})
	return done.Checked, err
}

// stateOf reads the superblock of a device.
func stateOf(device, fsType string) (probe.State, error) {
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return probe.State{}, err
	}
	defer f.Close()
	size, err := f.Seek(0, 2)
	if err != nil {
		return probe.State{}, err
	}
	return probe.ReadState(f, size, fsType)
}

// StateFile implements stage.StateMaker. Where the file is there, and not fuller than asked, it is attached as it is.
func (m *Machine) StateFile(ctx context.Context, root, dir string, spec stage.FileSpec) (device string, mounted, undo func() error, err error) {
	fail := func(err error) (string, func() error, func() error, error) {
		return "", nil, nil, fmt.Errorf("state file %s in %s: %w", spec.Name, dir, err)
	}
	if !spec.Named() {
		return fail(errors.New("that cannot be its name"))
	}
	at, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(at)
	work := stage.DiskSpec{Root: root, Device: dir, File: spec}
	f, err := entry.OpenRegular(at, spec.Name)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := m.onDisk(ctx, stage.OpNewFile, work); err != nil {
			return fail(err)
		}
		f, err = entry.OpenRegular(at, spec.Name)
	} else if err == nil {
		// A file that cannot grow still holds a state: the boot goes on with it.
		full, gerr := isFull(f, spec)
		if full {
			_, gerr = m.onDisk(ctx, stage.OpGrowFile, work)
		}
		if gerr != nil {
			m.Detail("state file %s in %s cannot grow: %v", spec.Name, dir, gerr)
		}
	}
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	d, err := images.AttachWritable(f, 0, 0)
	if err != nil {
		return fail(err)
	}
	return d.Path, d.Release, d.Close, nil
}

// isFull reports whether what is in the file is fuller than asked.
func isFull(f *os.File, spec stage.FileSpec) (bool, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	st, err := probe.ReadState(f, size, "ext4")
	return err == nil && spec.Wants(st.Used, st.Size, size), err
}

// EncryptNew implements stage.StateMaker.
func (m *Machine) EncryptNew(ctx context.Context, root, device string, how stage.UnlockSpec) (mapped string, undo func() error, err error) {
	return m.encrypted(ctx, stage.OpEncrypt, root, device, how)
}

// Destroy implements stage.StateMaker.
func (m *Machine) Destroy(ctx context.Context, order string) error {
	_, err := m.onDisk(ctx, stage.OpDestroy, stage.DiskSpec{Why: order})
	return err
}

// Unlock implements stage.StateKeeper. The keys are tried in their order; a device with a key file is only waited for when its turn
// comes.
func (m *Machine) Unlock(ctx context.Context, root, device string, how stage.UnlockSpec) (mapped string, undo func() error, err error) {
	mapped, undo, err = m.encrypted(ctx, stage.OpUnlock, root, device, how)
	if err == nil || how.Kind == stage.UnlockRandom {
		return mapped, undo, err
	}
	if how.Kind == stage.UnlockTPM2 && how.KeyFile != "" {
		m.Detail("%v", err)
		how.Kind = stage.UnlockKeyFile
		var kerr error
		if mapped, undo, kerr = m.encrypted(ctx, stage.OpUnlock, root, device, how); kerr == nil {
			return mapped, undo, nil
		}
		err = errors.Join(err, kerr)
	}
	return "", nil, fmt.Errorf("unlock %s: %w: %w", device, stage.ErrLocked, err)
}

// encrypted has the keeper map an encrypted device, after everything is there that it takes.
func (m *Machine) encrypted(ctx context.Context, op, root, device string, how stage.UnlockSpec) (mapped string, undo func() error, err error) {
	s := stage.DiskSpec{Root: root, Device: device, Unlock: how}
	if err = m.cryptModules(ctx, root); err == nil && how.KeyFile != "" && (op == stage.OpEncrypt || how.Kind == stage.UnlockKeyFile) {
		err = m.keyDevice(ctx, root, &s)
	}
	if err != nil {
		return "", nil, fmt.Errorf("%s %s: %w", op, device, err)
	}
	done, err := m.onDisk(ctx, op, s)
	m.forget(device)
	if err != nil {
		return "", nil, err
	}
	return done.Mapped, func() error {
		dm, err := devmapper.Open()
		if err != nil {
			return err
		}
		defer dm.Close()
		return dm.Remove(how.Mapped())
	}, nil
}

// cryptModules loads what the kernel needs. Only dm_crypt is asked for: the rest may be built in, be for other machines, or be done
// without.
func (m *Machine) cryptModules(ctx context.Context, root string) error {
	for _, name := range []string{"algif_skcipher", "xts", "aesni_intel", "aes_ce_blk", "tpm_crb", "tpm_tis"} {
		if strings.HasPrefix(name, "aes") && m.modules.Emulated {
			continue
		}
		if err := m.ModulesOf(ctx, root, name); err != nil {
			m.Detail("%v", err)
		}
	}
	return m.ModulesOf(ctx, root, "dm_crypt")
}

// keyDevice waits for the device on which the key file lies, and loads what its file system takes.
func (m *Machine) keyDevice(ctx context.Context, root string, s *stage.DiskSpec) error {
	ctx, cancel := context.WithTimeout(ctx, s.Unlock.Wait)
	defer cancel()
	d, err := m.Device(ctx, s.Unlock.KeyDevice)
	if err != nil {
		return err
	}
	s.KeyDevice, s.KeyType = d.Path, d.FileSystem
	modules := []string{d.FileSystem}
	if d.FileSystem == "vfat" {
		modules = append(modules, "nls_cp437", "nls_ascii")
	}
	return m.ModulesOf(ctx, root, modules...)
}
