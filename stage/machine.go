package stage

import (
	"context"
	"io/fs"
	"time"

	"veneer/boot"
	"veneer/images"
	"veneer/overlay"
	"veneer/overlay/identity"
	"veneer/overlay/mount"
)

// Machine is what a boot needs of the machine that it runs on. initramfs/machine is the real one; Paper is the one on which
// `veneer plan` boots. One goroutine uses it, but for Apply, which the workers of a step call for different targets.
type Machine interface {
	mount.Applier

	// Drivers loads the drivers of the devices that are there, and lets those that appear load theirs from now on. It
	// returns early from a delay that was asked for when ctx ends.
	Drivers(ctx context.Context, delay time.Duration) error

	// Device waits until exactly one device answers to ref, or until ctx ends. The error lists what was there and why it
	// was not taken. Two devices that answer are refused.
	Device(ctx context.Context, ref boot.DeviceRef) (Device, error)

	// Modules makes kernel features available by the names of their modules, in order.
	Modules(names ...string) error

	// TPM opens the machine's TPM 2.0; with wait it gives the kernel until ctx ends to find one. The error is ErrNoTPM where there is none.
	TPM(ctx context.Context, wait bool) (TPM, error)

	// SecureBoot reports whether the firmware checks the signature of what it starts.
	SecureBoot() (bool, error)

	// Attacher prepares for making block devices of images; verified tells whether dm-verity guards them.
	Attacher(verified bool) (Attacher, error)

	// Files is the tree below a directory of the machine.
	Files(dir string) fs.FS

	StateMachine

	// OpenState opens the directory of a state that is mounted at dir.
	OpenState(dir string, owner Owner) (StateDir, error)

	// ResetRequested reports whether the firmware asks for a reset (systemd's FactoryResetRequest).
	ResetRequested() bool

	// Look finds what a stack of images has at a path, see overlay.Look.
	Look(lowers []string, name string) (overlay.Found, error)

	// StateName is the name that stands for a path of the merged root in a state.
	StateName(path string) string

	// Identity carries out the settings on the merged root, see identity.Apply; state is the directory of the state, or "" where
	// nothing is kept. It fills in what env says of the platform and the kernel.
	Identity(root, state string, settings []identity.Setting, env identity.Env) ([]identity.Done, error)

	// CheckRoot finds the program that becomes PID 1 in the merged root, see overlay.CheckRoot.
	CheckRoot(root, asked string) (string, error)
}

// Attacher makes read-only block devices of images. Where a boot has several workers they use it at the same time.
type Attacher interface {
	// Attach makes a device of the image in the file backing. The first function returned with it is called once the device
	// is mounted, the other takes it down.
	Attach(backing string, img images.Image, onCorruption images.Corruption) (device string, mounted func() error, undo func() error, err error)
	Close() error
}

// Device is a block device that was found.
type Device struct {
	Path       string
	FileSystem string
	ReadOnly   bool

	// Only StateDevice and CreatePartition answer these; NextDevice all but the first, Device Label and UUID.
	Empty     bool   // it holds nothing, or what a Format or EncryptNew that was cut off left; FileSystem is ""
	Label     string // of what it holds
	UUID      string
	PartLabel string // of the partition; only NextDevice answers it
	Size      int64  // bytes
}

// Remaining is the time that ctx leaves, or an error once there is none; without a deadline it is an hour.
func Remaining(ctx context.Context) (time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		return time.Hour, nil
	}
	left := time.Until(deadline)
	if left <= 0 {
		return 0, context.DeadlineExceeded
	}
	return left, nil
}
