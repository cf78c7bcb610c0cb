// Package paper is a machine on which a boot can be planned: it does nothing and says what it would do.
//
// It guarantees that a plan runs the very same recipe as a boot, since it only stands in for stage.Machine. PID 1 never links it.
package paper

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"testing/fstest"
	"time"

	"veneer/boot"
	"veneer/images"
	"veneer/overlay/identity"
	"veneer/overlay/mount"
	"veneer/stage"
)

// Machine is a stage.Machine whose store holds one deployment.
type Machine struct {
	Manifest []byte
	Serial   string
	Wait     time.Duration
	RAM      int64
	Say      func(line string)
	Foreign  *boot.Foreign // the medium of others that there is in place of a store
	ISO      string        // the file in which it is
	devices  int
	looked   bool
}

var _ stage.Machine = (*Machine)(nil)

// Apply says nothing: the runner has shown the operation.
func (p *Machine) Apply(mount.Op) error { return nil }

// Drivers implements stage.Machine.
func (p *Machine) Drivers(_ context.Context, delay time.Duration) error {
	p.Say("load the drivers of all devices, and of those that appear")
	if delay > 0 {
		p.Say(fmt.Sprintf("wait %s, as rootdelay= asks", delay))
	}
	return nil
}

// Device implements stage.Machine: the device is there, and holds an ext4.
func (p *Machine) Device(_ context.Context, ref boot.DeviceRef) (stage.Device, error) {
	p.Say(fmt.Sprintf("wait up to %s for %s; refuse two devices that answer", p.Wait, ref))
	path := "/dev/STORE"
	if ref.Kind == boot.ByPath {
		path = ref.Value
	}
	return stage.Device{Path: path, FileSystem: "ext4"}, nil
}

// Modules implements stage.Machine.
func (p *Machine) Modules(names ...string) error {
	p.Say("modprobe -a " + strings.Join(names, " "))
	return nil
}

// Attacher implements stage.Machine.
func (p *Machine) Attacher(verified bool) (stage.Attacher, error) { return attacher{p, verified}, nil }

type attacher struct {
	*Machine
	verified bool
}

// Attach implements stage.Attacher.
func (p attacher) Attach(backing string, img images.Image, onCorruption images.Corruption) (string, func() error, func() error, error) {
	nothing := func() error { return nil }
	loop := fmt.Sprintf("/dev/loop%d", p.devices)
	p.Say(fmt.Sprintf("losetup --read-only --direct-io=on %s %s", loop, backing))
	device := loop
	if p.verified {
		device = fmt.Sprintf("/dev/dm-%d", p.devices)
		options := ""
		if onCorruption == images.Restart || onCorruption == images.Panic {
			options = fmt.Sprintf(" --%s-on-corruption", onCorruption)
		}
		p.Say(fmt.Sprintf("veritysetup open --hash-offset=%d%s %s veneer-%s %s %s", img.Verity.HashOffset, options, loop, img.ID, loop, img.ID))
	}
	p.devices++
	return device, nothing, nothing, nil
}

// Close implements stage.Attacher.
func (attacher) Close() error { return nil }

// TPM implements stage.Machine: a plan knows no TPM.
func (*Machine) TPM(context.Context, bool) (stage.TPM, error) { return nil, stage.ErrNoTPM }

// SecureBoot implements stage.Machine.
func (*Machine) SecureBoot() (bool, error) { return false, nil }

// Files implements stage.Machine.
func (p *Machine) Files(dir string) fs.FS {
	switch {
	case p.Foreign != nil && dir == stage.StoreDir:
		return mediumFiles(*p.Foreign)
	case p.Foreign != nil && p.ISO != "" && strings.HasSuffix(dir, "/iso-carrier"):
		return isoFiles(p.ISO)
	case p.Foreign != nil:
		return keptFiles()
	}
	at := images.DeploymentPath(p.Serial)
	return fstest.MapFS{
		images.DefaultPath():            {Data: []byte(p.Serial + "\n")},
		at + "/" + images.ManifestName:  {Data: p.Manifest},
		at + "/" + images.SignatureName: {},
	}
}

// Identity implements stage.Machine: it knows nothing of the machine, and so tells the modes alone.
func (p *Machine) Identity(_, state string, settings []identity.Setting, _ identity.Env) ([]identity.Done, error) {
	var done []identity.Done
	for _, s := range settings {
		done = append(done, identity.Done{Setting: s, Err: identity.Check(s, state != "")})
	}
	return done, nil
}

// CheckRoot implements stage.Machine.
func (p *Machine) CheckRoot(root, asked string) (string, error) {
	if asked != "" {
		p.Say(fmt.Sprintf("check that %s%s can be run", root, asked))
		return asked, nil
	}
	p.Say("look for an init in " + root + " and check that it can be run")
	return "/sbin/init", nil
}
