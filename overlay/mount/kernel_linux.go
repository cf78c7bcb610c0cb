package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxData is the most that mount(2) takes as options: one page, with the NUL that ends it.
const maxData = 4096 - 1

// Kernel applies operations to the mount namespace of this process.
type Kernel struct{}

// Apply carries out op. Its error is an *fs.PathError whose path is the target and whose text names every operand.
func (Kernel) Apply(op Op) error {
	switch op := op.(type) {
	case Mount:
		return op.apply()
	case Move:
		return wrap("move mount", op.Target, "from "+op.Source, unix.Mount(op.Source, op.Target, "", unix.MS_MOVE, ""))
	case Bind:
		return at(op.Root, op.Target, func(target string) error {
			return wrap("bind", op.Target, "from "+op.Source, unix.Mount(op.Source, target, "", unix.MS_BIND, ""))
		})
	case Restrict:
		return at(op.Root, op.Target, func(target string) error {
			flags := unix.MS_REMOUNT | unix.MS_BIND | uintptr(op.Flags)
			return wrap("restrict", op.Target, strings.Join(op.Flags.names(), ","), unix.Mount("", target, "", flags, ""))
		})
	case Writable:
		return wrap("remount", op.Target, "rw", unix.Mount("", op.Target, "", unix.MS_REMOUNT|keptFlags(op.Target), ""))
	case Unwritable:
		return wrap("remount", op.Target, "ro", unix.Mount("", op.Target, "", unix.MS_REMOUNT|unix.MS_RDONLY|keptFlags(op.Target), ""))
	case Place:
		return op.apply()
	case Own:
		return op.apply()
	case Like:
		return op.apply()
	case Private:
		return wrap("make private", op.Target, "", unix.Mount("", op.Target, "", unix.MS_REC|unix.MS_PRIVATE, ""))
	case Unmount:
		return wrap("unmount", op.Target, "", unix.Unmount(op.Target, unix.UMOUNT_NOFOLLOW))
	case Mkdir:
		return op.apply()
	case Symlink:
		err := os.Symlink(op.Content, op.Path)
		if errors.Is(err, fs.ErrExist) {
			if there, rerr := os.Readlink(op.Path); rerr == nil && there == op.Content {
				return nil
			}
		}
		return err
	}
	return fmt.Errorf("apply %s: unknown operation %T", op, op)
}

func (m Mount) apply() error {
	detail := fmt.Sprintf("%s from %q, options %q", m.Type, m.Source, m.Data)
	if len(m.Data) > maxData {
		return wrap("mount", m.Target, detail, fmt.Errorf("options of %d bytes: %w", len(m.Data), unix.E2BIG))
	}
	if m.Dir != "" {
		back, err := os.Getwd()
		if err != nil {
			return wrap("mount", m.Target, detail, err)
		}
		if err := os.Chdir(m.Dir); err != nil {
			return wrap("mount", m.Target, detail, err)
		}
		defer os.Chdir(back)
	}
	return at(m.Root, m.Target, func(target string) error {
		return wrap("mount", m.Target, detail, unix.Mount(m.Source, target, m.Type, uintptr(m.Flags), m.Data))
	})
}

// apply asks whether the directory is there only where it cannot be made at once.
func (m Mkdir) apply() error {
	if unix.Mkdir(m.Path, uint32(m.Mode.Perm())) != nil {
		if err := os.MkdirAll(m.Path, 0o755); err != nil {
			return err
		}
	}
	return os.Chmod(m.Path, m.Mode) // the umask is somebody else's
}

func wrap(op, path, detail string, err error) error {
	if err == nil {
		return nil
	}
	if detail != "" {
		err = fmt.Errorf("%s: %w", detail, err)
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
