package stage

import (
	"fmt"

	"veneer/boot"
)

// Settings is what the command line and the initramfs's defaults say together.
type Settings struct {
	Config      boot.Config
	OnFail      boot.OnFail // the policy until a manifest has its say; never ""
	OnFailAsked bool        // the command line itself named it, so that the manifest has no say
	OnFailBuilt boot.OnFail // the initramfs's own, for when the one asked for cannot be carried out
}

// Configure reads the kernel command line over the defaults that the initramfs carries. With an error, OnFail is that of the
// defaults: a policy that was misspelt is none.
func Configure(defaults, cmdline string) (Settings, error) {
	s := Settings{OnFail: boot.Reboot, OnFailBuilt: boot.Reboot}
	base, err := boot.ParseCmdline(boot.Config{Wait: DefaultWait}, defaults)
	if err != nil {
		return s, fmt.Errorf("defaults of the initramfs: %w", err)
	}
	if base.OnFail != "" {
		s.OnFail, s.OnFailBuilt = base.OnFail, base.OnFail
	}
	if s.Config, err = boot.ParseCmdline(base, cmdline); err != nil {
		return s, err
	}
	asked, err := boot.ParseCmdline(boot.Config{}, cmdline)
	if err != nil {
		return s, err
	}
	if asked.OnFail != "" {
		s.OnFail, s.OnFailAsked = asked.OnFail, true
	}
	if s.Config.Break != "" {
		if err := CheckStep(s.Config.Break); err != nil {
			return s, fmt.Errorf("veneer.break=: %w", err)
		}
	}
	if s.Config.Store.Device.Kind == "" {
		return s, fmt.Errorf("nothing says where the store is: give veneer.store=")
	}
	return s, nil
}
