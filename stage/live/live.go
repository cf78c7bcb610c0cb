// Package live is what the larger variants of the init do besides: sets on media that are files, and copies in memory.
// The local variant does not link it.
//
// It guarantees that a copy in memory is begun only where there is room for all of it and for what the machine needs besides, that
// each byte of it was verified while it was read, and that nothing is ever written to a medium.
package live

import (
	"context"

	"veneer/images"
	"veneer/overlay/mount"
	"veneer/stage"
)

// Variant is the live variant.
type Variant struct {
	System System
}

var _ stage.Variant = Variant{}

// System is what this takes of a machine besides. Linux is the real one.
type System interface {
	// Available is the memory that can be given without swapping, bytes.
	Available() (int64, error)

	// Copy copies one image to a file that is not there yet, verified while it is read.
	Copy(ctx context.Context, c Copying) error

	// Write makes a small file, with its directory.
	Write(file string, content []byte) error

	// Regular reports why a path is no regular file, if it is none.
	Regular(file string) error

	// AttachFile makes a read-only block device of a file.
	AttachFile(file string) (device string, undo func() error, err error)

	// Eject opens the tray of a drive.
	Eject(device string) error
}

// Copying is an order to copy an image.
type Copying struct {
	From, To   string
	Image      images.Image
	Unverified bool           // nothing vouches for it: it is copied as it is
	Progress   func(at int64) // bytes; called often, by the caller's goroutine
}

// Find implements stage.Variant.
func (v Variant) Find(ctx, waiting context.Context, r *stage.Runner, m stage.Machine, env *stage.Env) (*stage.Set, error) {
	switch {
	case env.Config.Root.Device.Kind != "":
		how, err := howAsked(&env.Config, r.Record.Cmdline)
		if err != nil {
			return nil, &stage.StepError{Step: stage.StepFindMedium, Err: err}
		}
		return findInstalled(ctx, waiting, r, m, env, how)
	case env.Config.Foreign != nil:
		return findForeign(ctx, waiting, r, m, env)
	case env.Config.Medium.Path != "":
		return v.onMedium(ctx, waiting, r, m, env)
	}
	return nil, nil
}

// Settle implements stage.Variant.
func (v Variant) Settle(ctx context.Context, r *stage.Runner, m stage.Machine, env *stage.Env, set *stage.Set) error {
	return v.toRAM(ctx, r, m, env, set)
}

// apply carries out operations and keeps their undoing.
func apply(r *stage.Runner, m stage.Machine, ops ...mount.Op) error {
	for _, op := range ops {
		r.Detailf("%s", op)
		if err := m.Apply(op); err != nil {
			return err
		}
		if undo := op.Undo(); undo != nil {
			r.OnUndo(func() error { return m.Apply(undo) })
		}
	}
	return nil
}
