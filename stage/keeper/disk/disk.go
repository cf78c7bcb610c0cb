package disk

import (
	"context"
	"fmt"

	"veneer/overlay"
	"veneer/overlay/mount"
	"veneer/stage"
)

// Disk works on the disks of this machine.
type Disk struct {
	mount.Kernel
	Detail func(format string, args ...any)
	Ask    func(ctx context.Context, prompt string) ([]byte, error) // asks a person for a secret
	asked  stage.DiskSpec                                           // the encrypted device that was asked for last
}

// New returns a Disk that asks on the console, without echo.
func New(detail func(format string, args ...any)) *Disk {
	return &Disk{Detail: detail, Ask: askConsole}
}

// Do does what the init asks for; known tells whether the operation is one of ours.
func (m *Disk) Do(ctx context.Context, op string, s stage.DiskSpec) (done stage.DiskDone, known bool, err error) {
	k := key{s.KeyDevice, s.KeyType, s.Unlock.KeyFile}
	switch op {
	case stage.OpModule:
		err = m.Module(ctx, s.Root, s.Name)
	case stage.OpProbe:
		err = overlay.ProbeUpper(s.Root)
	case stage.OpPartition:
		done.UUID, err = m.CreatePartition(s.Device, s.Partition)
	case stage.OpGrowPartition:
		done.Grew, done.Size, err = m.GrowPartition(s.Device, s.Number)
	case stage.OpFormat:
		err = m.Format(ctx, s.Root, s.Device, s.FileSystem, s.Name)
	case stage.OpCheck:
		done.Checked, err = m.Check(ctx, s.Root, s.Device, s.FileSystem, s.Check, s.Why)
	case stage.OpNewFile:
		err = m.NewFile(ctx, s.Root, s.Device, s.File)
	case stage.OpGrowFile:
		err = m.GrowFile(s.Device, s.File)
	case stage.OpEncrypt:
		m.remember(s)
		done.Mapped, err = m.EncryptNew(ctx, s.Root, s.Device, s.Unlock, k)
	case stage.OpUnlock:
		m.remember(s)
		done.Mapped, err = m.Unlock(ctx, s.Root, s.Device, s.Unlock, k)
	case stage.OpDestroy:
		err = m.Destroy(s.Why)
	default:
		return done, false, fmt.Errorf("no operation on disks is called %q", op)
	}
	return done, true, err
}
