package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"veneer/images"
	"veneer/overlay"
	"veneer/overlay/identity"
	"veneer/overlay/mount"
	"veneer/stage"
)

// Machine is the machine that PID 1 runs on.
type Machine struct {
	mount.Kernel
	modules *Modules
	uevents *monitor
	devices map[string]*blockDevice // by kernel name
	tried   map[string]bool         // modaliases that were matched already
	reserve bool                    // the modules in reserve are mounted
	program string                  // the keeper
	keeper  *keeper                 // nil until there is work for it
	failed  []string                // drivers that did not load, for the message when no device appears
	Detail  func(format string, args ...any)
}

var (
	_ stage.Machine      = (*Machine)(nil)
	_ stage.StateMachine = (*Machine)(nil)
)

// New opens the uevent socket, before anything is looked at, so that no device can slip between looking and listening.
func New(release string) (*Machine, error) {
	f, err := os.Open(indexPath)
	if err != nil {
		return nil, fmt.Errorf("modules of the initramfs: %w", err)
	}
	defer f.Close()
	modules, err := ReadModules(f)
	if err != nil {
		return nil, err
	}
	if err := modules.CheckRelease(release); err != nil {
		return nil, err
	}
	modules.Emulated = emulated("/proc/cpuinfo")
	uevents, err := newMonitor()
	if err != nil {
		return nil, err
	}
	m := &Machine{modules: modules, uevents: uevents, devices: map[string]*blockDevice{}, tried: map[string]bool{},
		Detail: func(string, ...any) {}}
	modules.insert = m.insert
	return m, nil
}

// emulated reports whether QEMU translates the instructions of this CPU (TCG). Measured there, dm-verity with the AVX2 variant of
// SHA-256 reads half as quickly as with the generic one.
func emulated(cpuinfo string) bool {
	text, _ := os.ReadFile(cpuinfo)
	return strings.Contains(string(text), "QEMU TCG")
}

// Close closes the uevent socket and gives the modules in reserve back.
func (m *Machine) Close() error {
	return errors.Join(m.stopKeeper(), m.uevents.close(), m.closeReserve())
}

// Drivers implements stage.Machine: loads the driver of each device that the buses know, then listens for delay.
func (m *Machine) Drivers(ctx context.Context, delay time.Duration) error {
	for _, bus := range list(busDir) {
		// Most buses carry nothing that a boot medium hangs on; looking at all of them costs more than loading what is needed.
		if !m.modules.Drives(bus) {
			continue
		}
		devices := filepath.Join(busDir, bus, "devices")
		for _, name := range list(devices) {
			m.drive(modalias(filepath.Join(devices, name)))
		}
	}
	if delay == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, delay)
	defer cancel()
	for {
		if err := m.listen(ctx); errors.Is(err, context.DeadlineExceeded) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// drive loads what drives a device. A driver that does not load is no reason to stop, since the store may hang on another
// device; it is remembered for the message in case it does not.
func (m *Machine) drive(modalias string) {
	if modalias == "" || m.tried[modalias] {
		return
	}
	m.tried[modalias] = true
	for _, name := range m.modules.Match(modalias) {
		if err := m.modules.Load(name); err != nil {
			m.failed = append(m.failed, err.Error())
			continue
		}
		m.Detail("modprobe %s # for %s", name, modalias)
	}
}

// listen handles the next uevent.
func (m *Machine) listen(ctx context.Context) error {
	e, err := m.uevents.next(ctx)
	if errors.Is(err, errLost) {
		return m.scan()
	}
	if err != nil {
		return err
	}
	switch e.action {
	case "remove":
		if e.vars["SUBSYSTEM"] == "block" {
			delete(m.devices, filepath.Base(e.vars["DEVPATH"]))
		}
		return nil
	case "add", "change", "bind":
		m.drive(e.vars["MODALIAS"])
		if e.vars["SUBSYSTEM"] == "block" {
			m.look(filepath.Base(e.vars["DEVPATH"]))
		}
	}
	return nil
}

// Modules implements stage.Machine.
func (m *Machine) Modules(names ...string) error {
	for _, name := range names {
		if err := m.modules.Load(name); err != nil {
			return err
		}
	}
	return nil
}

// Attacher implements stage.Machine.
func (m *Machine) Attacher(verified bool) (stage.Attacher, error) {
	a, err := images.NewAttacher(verified)
	if err != nil {
		return nil, err
	}
	return attacher{a}, nil
}

type attacher struct{ *images.Attacher }

// Attach implements stage.Attacher.
func (a attacher) Attach(backing string, img images.Image, onCorruption images.Corruption) (string, func() error, func() error, error) {
	d, err := a.Attacher.Attach(backing, img, onCorruption)
	if err != nil {
		return "", nil, nil, err
	}
	return d.Path, d.Release, d.Close, nil
}

// Files implements stage.Machine.
func (m *Machine) Files(dir string) fs.FS { return os.DirFS(dir) }

// Identity implements stage.Machine. A merged root that is to be read-only is written to once more, for this.
func (m *Machine) Identity(root, state string, settings []identity.Setting, env identity.Env) (done []identity.Done, err error) {
	env.System, env.Platform = identity.Linux{}, identity.Platform("/")
	var store *identity.Store
	if state != "" {
		if store, err = identity.OpenStore(filepath.Join(state, stage.IdentityDir)); err != nil {
			return nil, err
		}
		defer store.Close()
	}
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return nil, &fs.PathError{Op: "statfs", Path: root, Err: err}
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		if err := unix.Mount("", root, "", unix.MS_REMOUNT, ""); err != nil {
			return nil, &fs.PathError{Op: "remount for writing", Path: root, Err: err}
		}
		defer func() {
			if rerr := unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); rerr != nil {
				err = errors.Join(err, &fs.PathError{Op: "remount read-only", Path: root, Err: rerr})
			}
		}()
	}
	return identity.Apply(root, store, settings, env)
}

// CheckRoot implements stage.Machine.
func (m *Machine) CheckRoot(root, asked string) (string, error) {
	return overlay.CheckRoot(root, asked)
}

// ProbeUpper implements stage.StateKeeper. The trial is the keeper's: it is made once.
func (m *Machine) ProbeUpper(ctx context.Context, dir string) error {
	probed, err := overlay.Probed(dir)
	if err == nil && !probed {
		_, err = m.onDisk(ctx, stage.OpProbe, stage.DiskSpec{Root: dir})
	}
	return err
}
