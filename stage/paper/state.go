package paper

import (
	"context"
	"fmt"
	"path"

	"veneer/boot"
	"veneer/stage"
)

// Where a plan finds things that only a machine could tell.
const (
	stateDevice = "/dev/STATE"
	stateLoop   = "/dev/loopSTATE"
)

var _ stage.StateMachine = (*Machine)(nil)

// StateDevice implements stage.StateMaker: the device is there, and holds an ext4.
func (p *Machine) StateDevice(_ context.Context, ref boot.DeviceRef) (stage.Device, error) {
	p.Say(fmt.Sprintf("wait up to %s for %s; refuse two devices that answer", p.Wait, ref))
	device := stateDevice
	if ref.Kind == boot.ByPath {
		device = ref.Value
	}
	return stage.Device{Path: device, FileSystem: "ext4"}, nil
}

// LookAt implements stage.StateMaker.
func (p *Machine) LookAt(device string) (stage.Device, error) {
	p.Say("look what lies on " + device)
	return stage.Device{Path: device, FileSystem: "ext4"}, nil
}

// CreatePartition implements stage.StateMaker.
func (p *Machine) CreatePartition(_ context.Context, store string, spec stage.PartitionSpec) (stage.Device, error) {
	p.Say(fmt.Sprintf("make a partition named %q in the free room at the end of the disk of %s", spec.Name, store))
	return stage.Device{Path: stateDevice, Empty: true, Size: spec.Size}, nil
}

// GrowPartition implements stage.StateMaker.
func (p *Machine) GrowPartition(_ context.Context, partition string) (bool, error) {
	p.Say("make " + partition + " reach to the end of its disk")
	return false, nil
}

// Format implements stage.StateMaker.
func (p *Machine) Format(_ context.Context, _, device, fsType, label string) error {
	p.Say(fmt.Sprintf("mkfs.%s -L %s %s # refused unless it holds nothing", fsType, label, device))
	return nil
}

// StateFile implements stage.StateMaker.
func (p *Machine) StateFile(_ context.Context, _, dir string, spec stage.FileSpec) (string, func() error, func() error, error) {
	nothing := func() error { return nil }
	p.Say(fmt.Sprintf("losetup --direct-io=on %s %s # made, with an ext4 in it, if it is not there", stateLoop, path.Join(dir, spec.Name)))
	return stateLoop, nothing, nothing, nil
}

// EncryptNew implements stage.StateMaker.
func (p *Machine) EncryptNew(_ context.Context, _, device string, how stage.UnlockSpec) (string, func() error, error) {
	p.Say(fmt.Sprintf("cryptsetup luksFormat --type luks2 %s # key: %s; refused unless it holds nothing", device, how.Kind))
	return p.open(device, how)
}

// Destroy implements stage.StateMaker: nothing on paper asks for it.
func (p *Machine) Destroy(context.Context, string) error { return nil }

// ModulesOf implements stage.StateKeeper.
func (p *Machine) ModulesOf(_ context.Context, _ string, names ...string) error {
	return p.Modules(names...)
}

// Unlock implements stage.StateKeeper.
func (p *Machine) Unlock(_ context.Context, _, device string, how stage.UnlockSpec) (string, func() error, error) {
	return p.open(device, how)
}

func (p *Machine) open(device string, how stage.UnlockSpec) (string, func() error, error) {
	name := how.Name
	if name == "" {
		name = "veneer-state"
	}
	p.Say(fmt.Sprintf("cryptsetup open %s %s # key: %s", device, name, how.Kind))
	return "/dev/mapper/" + name, func() error { return nil }, nil
}

// Check implements stage.StateKeeper.
func (p *Machine) Check(_ context.Context, _, device, fsType string, how stage.CheckSpec) (stage.Checked, error) {
	if how.Mode != boot.FsckSkip {
		p.Say(fmt.Sprintf("fsck.%s %s # fsck.mode=%s: nothing is run on a clean one", fsType, device, how.Mode))
	}
	return stage.Checked{}, nil
}

// GrowFileSystem implements stage.StateKeeper.
func (p *Machine) GrowFileSystem(mountpoint string) (bool, error) {
	p.Say("make the file system on " + mountpoint + " as large as its device")
	return false, nil
}

// ProbeUpper implements stage.StateKeeper.
func (p *Machine) ProbeUpper(_ context.Context, dir string) error {
	p.Say("try whether " + dir + " can hold an upper")
	return nil
}

// SetKeeper implements stage.StateMachine.
func (p *Machine) SetKeeper(string) error { return nil }
