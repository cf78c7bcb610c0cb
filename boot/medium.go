package boot

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// ToRAM says whether the images are copied to memory before they are used.
type ToRAM string

// The ways. ToRAMAuto copies where there is room enough, ToRAMYes fails where there is not.
const (
	ToRAMAuto ToRAM = "auto"
	ToRAMYes  ToRAM = "yes"
	ToRAMNo   ToRAM = "no"
)

// MediumLost is what happens when the medium that the images are read from goes away.
type MediumLost string

// The policies. MediumIgnore, which "" is too, says so and no more.
const (
	MediumIgnore   MediumLost = "ignore"
	MediumPoweroff MediumLost = "poweroff"
	MediumReboot   MediumLost = "reboot"
)

// MediumRef names a file that is a medium: an ISO on another file system.
type MediumRef struct {
	Device DeviceRef // zero: any device that has the file
	Path   string    // absolute and clean; "" for none
}

// String returns the reference as the kernel command line spells it, before quoting.
func (m MediumRef) String() string {
	if m.Device.Kind == "" {
		return m.Path
	}
	return m.Device.String() + ":" + m.Path
}

// ParseMedium reads [DEVICE:]/PATH, cut at the last ":/".
func ParseMedium(s string) (MediumRef, error) {
	var m MediumRef
	m.Path = s
	if i := strings.LastIndex(s, ":/"); i >= 0 {
		var err error
		if m.Device, err = ParseDeviceRef(s[:i]); err != nil {
			return MediumRef{}, err
		}
		m.Path = s[i+1:]
	}
	if !path.IsAbs(m.Path) || path.Clean(m.Path) != m.Path || m.Path == "/" || strings.ContainsRune(m.Path, 0) {
		return MediumRef{}, fmt.Errorf("medium %q: want [DEVICE:]/PATH, the clean absolute path of a file", clip(s))
	}
	return m, nil
}

// setToRAM reads auto, yes or no, and behind a comma eject.
func (c *Config) setToRAM(v string, has bool) error {
	how, option, more := strings.Cut(v, ",")
	if !has {
		how = string(ToRAMYes)
	}
	mode, err := oneOf(how, ToRAMAuto, ToRAMYes, ToRAMNo)
	if yes, berr := parseBool(how, true); err != nil && berr == nil {
		mode, err = ToRAMNo, nil
		if yes {
			mode = ToRAMYes
		}
	}
	if more && option != "eject" {
		err = errors.Join(err, fmt.Errorf("want eject behind the comma, not %q", clip(option)))
	}
	if err != nil {
		return err
	}
	c.ToRAM, c.Eject = mode, more
	if mode != ToRAMNo {
		c.Larger = "veneer.toram"
	}
	return nil
}
