package live

import (
	"errors"
	"fmt"
	"strings"

	"veneer/boot"
)

// asked is how an installed root was asked for.
type asked struct {
	why     string
	recurse string // what overlayroot= says of the other file systems of /etc/fstab, "0" for nothing
}

// howAsked reads what a command line says of an installed root besides its device and its upper, which boot/dialect has made ours
// already: overlayroot's recurse=, and the subvolume in rootflags=, which it puts into c.
func howAsked(c *boot.Config, line string) (asked, error) {
	a := asked{why: "veneer.root= of the initramfs", recurse: "0"}
	words, err := boot.Words(line)
	if err != nil {
		return a, err
	}
	given := map[string]string{}
	for _, w := range words {
		given[w.Name] = w.Value
	}
	if _, own := given["veneer.root"]; own {
		a.why = "veneer.root= of the command line"
	}
	if value := given["overlayroot"]; value == "disabled" {
		return a, errors.New("overlayroot=disabled: without an overlay the system is booted by the distribution's own entry of the boot menu")
	} else if value != "" {
		a.why = "overlayroot=" + value + " of the command line"
		a.recurse = "1" // overlayroot's own default
		for _, option := range strings.FieldsFunc(value, func(r rune) bool { return r == ':' || r == ',' }) {
			if v, ok := strings.CutPrefix(option, "recurse="); ok {
				a.recurse = v
			}
		}
	}
	if c.State.Kind == boot.StateOnDevice && c.State.On.Device == c.Root.Device {
		return a, errors.New("the upper cannot lie on the root itself")
	}
	if c.Root.Dir == "." {
		for _, option := range strings.Split(given["rootflags"], ",") {
			if sub, ok := strings.CutPrefix(option, "subvol="); ok {
				ref, err := boot.ParseRoot(c.Root.Device.String() + ":/" + strings.TrimPrefix(sub, "/"))
				if err != nil {
					return a, fmt.Errorf("rootflags=: %w", err)
				}
				c.Root = ref
			}
		}
	}
	return a, nil
}
