package machine

import (
	"context"
	"errors"

	"veneer/boot"
	"veneer/overlay"
	"veneer/stage"
)

var errStub = errors.New("stub")

func (m *Machine) StateDevice(ctx context.Context, ref boot.DeviceRef) (stage.Device, error) {
	return m.Device(ctx, ref)
}
func (m *Machine) CreatePartition(context.Context, string, stage.PartitionSpec) (stage.Device, error) {
	return stage.Device{}, errStub
}
func (m *Machine) GrowPartition(context.Context, string) (bool, error)          { return false, nil }
func (m *Machine) Format(context.Context, string, string, string, string) error { return errStub }
func (m *Machine) StateFile(context.Context, string, string, stage.FileSpec) (string, func() error, func() error, error) {
	return "", nil, nil, errStub
}
func (m *Machine) EncryptNew(context.Context, string, string, stage.UnlockSpec, stage.AskFunc) (string, func() error, error) {
	return "", nil, errStub
}
func (m *Machine) Unlock(context.Context, string, string, stage.UnlockSpec, stage.AskFunc) (string, func() error, error) {
	return "", nil, errStub
}
func (m *Machine) Check(context.Context, string, string, string, stage.CheckSpec) (stage.Checked, error) {
	return stage.Checked{}, nil
}
func (m *Machine) GrowFileSystem(string) (bool, error) { return false, nil }
func (m *Machine) ProbeUpper(dir string) error         { return overlay.ProbeUpper(dir) }
