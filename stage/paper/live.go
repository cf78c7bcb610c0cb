package paper

import (
	"context"
	"fmt"

	"veneer/images/copyin"
	"veneer/stage"
	"veneer/stage/live"
)

// Where a plan finds media.
const (
	mediumDevice = "/dev/MEDIUM"
	mediumLoop   = "/dev/loopMEDIUM"
)

var _ live.System = (*Machine)(nil)

// Search is what live asks of a machine: a device has the file.
func (p *Machine) Search(_ context.Context, what string, has func(stage.Device) error) (stage.Device, error) {
	p.Say(fmt.Sprintf("look for %s on each block device with a file system, removable ones first, for up to %s; refuse two that have it", what, p.Wait))
	d := stage.Device{Path: mediumDevice, FileSystem: "ext4"}
	return d, has(d)
}

// Content is what live asks of a machine: the file is an ISO.
func (p *Machine) Content(device string) (stage.Device, error) {
	return stage.Device{Path: device, FileSystem: "iso9660", ReadOnly: true}, nil
}

// Available implements live.System: nothing runs yet.
func (p *Machine) Available() (int64, error) { return p.RAM, nil }

// Copy implements live.System.
func (p *Machine) Copy(_ context.Context, c live.Copying) error {
	p.Say(fmt.Sprintf("copy %s of %s, and check that they hash to its ID", copyin.MiB(c.Image.Size), c.Image.Name))
	return nil
}

// Write implements live.System.
func (p *Machine) Write(file string, _ []byte) error {
	p.Say("write " + file)
	return nil
}

// Regular implements live.System.
func (p *Machine) Regular(string) error { return nil }

// AttachFile implements live.System.
func (p *Machine) AttachFile(string) (string, func() error, error) {
	return mediumLoop, func() error { return nil }, nil
}

// Eject implements live.System.
func (p *Machine) Eject(device string) error {
	p.Say("eject " + device)
	return nil
}
