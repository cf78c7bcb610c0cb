package installed

import (
	"errors"
	"fmt"
	"strings"

	"veneer/boot"
	"veneer/boot/dialect"
	"veneer/stage"
)

// grubMeta is what GRUB's scripts read as something else than a part of a word (its manual, "Quoting" and "Simple commands"), beside
// control characters.
const grubMeta = "\"'\\$;|&<>{}#`"

// checkWords holds what --append says against what the menus take and what the init of this entry will do with it: a mistake would be met
// at the boot only, where nobody can mend it.
func (s Spec) checkWords() error {
	fail := func(err error) error { return fmt.Errorf("--append %q: %w", s.Append, err) }
	for _, r := range s.Append {
		if r < ' ' || r == 0x7f || strings.ContainsRune(grubMeta, r) {
			return fail(fmt.Errorf("GRUB does not take %q as part of a word: leave it out (a device with such a name has a UUID, too)", r))
		}
	}
	// The distribution's own words come first; of the root it names any will do.
	got, err := stage.Configure("veneer.root=UUID=0 veneer.on-fail=reboot", "root=UUID=0 ro "+s.words(), dialect.Strings)
	if err != nil {
		return fail(err)
	}
	var errs []error
	c := got.Config
	if c.Networked != "" {
		errs = append(errs, fmt.Errorf("%s: the init of this entry has no network", c.Networked))
	}
	if c.Foreign != nil || c.Root.Device.Kind == "" {
		errs = append(errs, errors.New("it names a medium, and this entry boots the root of this system: leave that out"))
	}
	if c.Upper.Kind == "" {
		errs = append(errs, errors.New("nothing says what the upper is: leave out overlayroot=, or give veneer.upper=tmpfs"))
	}
	if c.Upper.Kind == boot.UpperPersistent && c.State.Kind != boot.StateOnDevice {
		errs = append(errs, errors.New("veneer.upper=persistent: nothing says where it is kept: give veneer.state=DEVICE"))
	}
	if !s.Shell && (c.Break != "" || got.OnFail == boot.Shell) {
		errs = append(errs, errors.New("it asks for a rescue shell: give --rescue-shell"))
	}
	if err := errors.Join(errs...); err != nil {
		return fail(err)
	}
	return nil
}
