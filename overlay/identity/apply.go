package identity

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Env is what an identity depends on beside the settings, the merged root and the state.
type Env struct {
	Name     string    // of the system: the beginning of a generated hostname
	Built    time.Time // no clock is earlier
	Asked    string    // machine-id that the kernel command line asks for; what is none asks for nothing
	Platform string    // see Platform; "" where it has no ID
	Images   []string  // directories at which the images are mounted, the bottom of the stack first
	Kept     Kept
	System   System
}

// System is what an identity asks of the kernel.
type System interface {
	// Random fills b, and reports whether the kernel had gathered enough for it to be unpredictable.
	Random(b []byte) (ready bool, err error)
	// Mix adds to the kernel's pool, and credits it with so many bits.
	Mix(b []byte, credit int) error
	Now() time.Time
	SetTime(time.Time) error
	SetHostname(name string) error
}

// Done is what became of one preset.
type Done struct {
	Setting
	What string
	Err  error // the machine runs on with less than was asked for
}

// applier is one call of Apply.
type applier struct {
	root      *dir
	store     *Store
	env       Env
	images    []*dir // bottom first
	id        ID     // of this boot, where it is known
	firstBoot bool
}

// Apply carries out the settings, one after the other in the order of Names, on the merged root. It is called once the rules are
// mounted, and before the root is handed over; the root must be writable. store is nil where nothing is kept. The error is one
// that kept it from beginning; what failed of a preset is in its Done.
func Apply(root string, store *Store, settings []Setting, env Env) ([]Done, error) {
	a := applier{store: store, env: env}
	if err := a.openAll(root); err != nil {
		return nil, err
	}
	defer a.close()
	var done []Done
	for _, s := range Complete(settings, store != nil) {
		d := Done{Setting: s}
		if d.Err = Check(s, true); d.Err == nil {
			d.What, d.Err = a.apply(s)
		}
		if d.Err != nil {
			d.Err = fmt.Errorf("%s: %w", s.Name, d.Err)
		}
		done = append(done, d)
	}
	return done, nil
}

func (a *applier) apply(s Setting) (string, error) {
	switch s.Name {
	case Clock:
		return a.clock(s.Mode)
	case RandomSeed:
		return a.randomSeed(s.Mode)
	case MachineID:
		return a.machineID(s.Mode)
	case DBus:
		return a.dbus(s.Mode)
	case Hostname:
		return a.hostname(s.Mode)
	case SSHHostKeys:
		return a.sshHostKeys(s.Mode)
	}
	// The others are directories, which rules keep.
	if s.Mode != Persist {
		return "as the base has it", nil
	}
	if a.store == nil {
		return "as the base has it", ErrNoState
	}
	return "kept by rules", nil
}

func (a *applier) openAll(root string) error {
	var err error
	if a.root, err = openDir(root, unix.RESOLVE_IN_ROOT); err != nil {
		return err
	}
	for _, path := range a.env.Images {
		d, err := openDir(path, unix.RESOLVE_IN_ROOT)
		if err != nil {
			a.close()
			return err
		}
		a.images = append(a.images, d)
	}
	return nil
}

func (a *applier) close() {
	a.root.close()
	for _, d := range a.images {
		d.close()
	}
}

// base is the content of a file as the images have it.
func (a *applier) base(rel string, most int64) ([]byte, bool) {
	for i := len(a.images) - 1; i >= 0; i-- {
		text, err := a.images[i].read(rel, most)
		if err == nil {
			return text, true
		}
		if !errors.Is(err, unix.ENOENT) {
			break
		}
	}
	return nil, false
}
