package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"veneer/images"
	"veneer/overlay/mount"
)

// The modules that few machines need lie in reserve, in one squashfs file, so that the others need not wait for the kernel to
// unpack them.
const (
	reserveImage = modulesDir + "/reserve.squashfs"
	reserveDir   = modulesDir + "/reserve"
)

// insert loads the file of one module with finit_module(2), so that the kernel reads, and appraises, the file itself.
func (m *Machine) insert(name string) error {
	f, err := os.Open(modulesDir + "/" + name + ".ko")
	if errors.Is(err, fs.ErrNotExist) {
		if err := m.openReserve(); err != nil {
			return fmt.Errorf("load module %s: %w", name, err)
		}
		f, err = os.Open(reserveDir + "/" + name + ".ko")
	}
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", f.Name(), err)
	}
	return nil
}

// openReserve mounts the reserve. What it takes, the loop device and squashfs, each boot takes anyway.
func (m *Machine) openReserve() error {
	if m.reserve {
		return nil
	}
	if err := m.Modules("loop", "squashfs"); err != nil {
		return err
	}
	d, err := images.AttachFile(reserveImage)
	if err != nil {
		return err
	}
	ops := []mount.Op{mount.Mkdir{Path: reserveDir, Mode: 0o755}, mount.Mount{Type: "squashfs", Source: d.Path, Target: reserveDir,
		Flags: mount.ReadOnly | mount.NoSuid | mount.NoDev | mount.NoExec}}
	for _, op := range ops {
		m.Detail("%s", op)
		if err := m.Apply(op); err != nil {
			return errors.Join(err, d.Close())
		}
	}
	m.reserve = true
	return d.Release() // from here on the mount keeps the device
}

// closeReserve gives the reserve back, or its file would keep its memory when the initramfs is emptied.
func (m *Machine) closeReserve() error {
	if !m.reserve {
		return nil
	}
	m.reserve = false
	return m.Apply(mount.Unmount{Target: reserveDir})
}
