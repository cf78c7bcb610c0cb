package stage

import (
	"errors"
	"fmt"

	"veneer/boot"
)

// Settings is what the command line and the initramfs's defaults say together.
type Settings struct {
	Config      boot.Config
	OnFail      boot.OnFail // the policy until a manifest has its say; never ""
	OnFailAsked bool        // the command line itself named it, so that the manifest has no say
	Aliases     []string    // words of others' dialects, and what each came to
	OnFailBuilt boot.OnFail // the initramfs's own, for when the one asked for cannot be carried out
}

// Dialects reads what a command line says in others' dialects over what is said already, see package dialect.
type Dialects func(boot.Config, string) (boot.Config, []string, error)

// Configure reads the kernel command line over the defaults that the initramfs carries; with dialects, others' parameters too, over
// which our own have the last word. All mistakes are reported at once. With an error, OnFail is still the policy that could be read: one that was misspelt is none.
func Configure(defaults, cmdline string, dialects Dialects) (Settings, error) {
	s := Settings{OnFail: boot.Reboot, OnFailBuilt: boot.Reboot}
	base, err := boot.ParseCmdline(boot.Config{Wait: DefaultWait}, defaults)
	if err != nil {
		return s, fmt.Errorf("defaults of the initramfs: %w", err)
	}
	if base.OnFail != "" {
		s.OnFail, s.OnFailBuilt = base.OnFail, base.OnFail
	}
	var foreign error
	if dialects != nil {
		base, s.Aliases, foreign = dialects(base, cmdline)
	}
	s.Config, err = boot.ParseCmdline(base, cmdline)
	err = errors.Join(foreign, err)
	// Its mistakes are the same; what it says of the policy counts even beside them.
	if asked, _ := boot.ParseCmdline(boot.Config{}, cmdline); asked.OnFail != "" {
		s.OnFail, s.OnFailAsked = asked.OnFail, true
	}
	if s.Config.Store.Device.Kind == "" && s.Config.Root.Device.Kind == "" && s.Config.Foreign == nil && err == nil {
		err = errors.New("nothing says where the store is: give veneer.store=")
	}
	if s.Config.Break != "" {
		if berr := CheckStep(s.Config.Break); berr != nil {
			err = errors.Join(err, fmt.Errorf("veneer.break=: %w", berr))
		}
	}
	return s, err
}
