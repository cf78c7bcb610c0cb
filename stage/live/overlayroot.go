package live

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"veneer/boot"
)

// asked is how an installed root was asked for.
type asked struct {
	why     string
	recurse string // what overlayroot= says of the other file systems of /etc/fstab, "0" for nothing
}

// overlayroot reads what cloud-initramfs-tools' overlayroot reads from a command line, root= and rootflags= with it, as
// veneer.root=, veneer.upper=, veneer.state= and veneer.swap=, which come first where they are given too.
//
//	overlayroot=tmpfs[:OPTIONS]                   an upper in memory
//	overlayroot=DEVICE, device:dev=DEVICE[,...]   an upper on that device, in its directory /veneer
//	overlayroot=disabled                          refused: this initramfs has no other way to boot that system
//	OPTIONS: swap=0|1 recurse=0|1|... timeout=SECONDS; debug, dir and driver mean nothing here
func overlayroot(c boot.Config, line string) (boot.Config, asked, error) {
	a := asked{why: "veneer.root= of the initramfs", recurse: "0"}
	words, err := boot.Words(line)
	if err != nil {
		return c, a, err
	}
	given := map[string]string{}
	for _, w := range words {
		given[w.Name] = w.Value
	}
	has := func(name string) bool { _, ok := given[name]; return ok }
	if has("veneer.root") {
		a.why = "veneer.root= of the command line"
	}
	if value, ok := given["overlayroot"]; ok && value != "" {
		if root := given["root"]; !has("veneer.root") && root != "" {
			if c.Root, err = boot.ParseRoot(root); err != nil {
				return c, a, fmt.Errorf("root=: %w", err)
			}
		}
		if c.Root.Device.Kind == "" {
			return c, a, errors.New("overlayroot= goes with root=, which is not given")
		}
		a.why = "overlayroot=" + value + " of the command line"
		if err := a.read(&c, value, has); err != nil {
			return c, a, fmt.Errorf("overlayroot=%s: %w", value, err)
		}
	}
	if c.Root.Device.Kind != "" && c.Root.Dir == "." {
		for _, option := range strings.Split(given["rootflags"], ",") {
			if sub, ok := strings.CutPrefix(option, "subvol="); ok {
				ref, err := boot.ParseRoot(c.Root.Device.String() + ":/" + strings.TrimPrefix(sub, "/"))
				if err != nil {
					return c, a, fmt.Errorf("rootflags=: %w", err)
				}
				c.Root = ref
			}
		}
	}
	return c, a, nil
}

// read reads the value of overlayroot=.
func (a *asked) read(c *boot.Config, value string, has func(string) bool) error {
	kind, rest, _ := strings.Cut(value, ":")
	device := ""
	switch {
	case kind == "tmpfs":
	case kind == "device":
	case kind == "disabled":
		return errors.New("without an overlay the system is booted by the distribution's own entry of the boot menu")
	case kind == "crypt":
		return errors.New("an encrypted upper is not supported in this form; see docs/installed-root.md")
	default:
		device, rest = value, ""
		if name, opts, cut := strings.Cut(value, ","); cut {
			device, rest = name, opts
		}
	}
	a.recurse = "1" // overlayroot's own default
	for _, option := range strings.Split(rest, ",") {
		name, v, _ := strings.Cut(option, "=")
		switch name {
		case "", "debug", "driver", "dir", "timeout":
		case "dev":
			device = v
		case "swap":
			if v != "0" && v != "1" {
				return fmt.Errorf("swap=%q: want 0 or 1", v)
			}
			if !has("veneer.swap") {
				c.Swap = v == "1"
			}
		case "recurse":
			a.recurse = v
		default:
			return fmt.Errorf("option %q is unknown; want swap, recurse, dev or timeout", option)
		}
	}
	if kind == "tmpfs" {
		if !has("veneer.upper") {
			c.Upper.Kind = boot.UpperTmpfs
		}
		return nil
	}
	if device == "" {
		return errors.New("want dev=DEVICE")
	}
	if !strings.ContainsAny(device, "/=") {
		device = "/dev/" + device
	}
	ref, err := boot.ParseDeviceRef(device)
	if err != nil {
		return err
	}
	if !has("veneer.state") {
		c.State = boot.Place{Kind: boot.StateOnDevice, On: boot.StoreRef{Device: ref, Dir: "veneer"}}
	}
	if !has("veneer.upper") {
		c.Upper.Kind = boot.UpperPersistent
	}
	if c.Root.Device == ref {
		return errors.New("the upper cannot lie on the root itself")
	}
	return nil
}

// Installed reports whether a line asks for an installed root.
func Installed(c boot.Config, line string) bool {
	words, _ := boot.Words(line)
	return c.Root.Device.Kind != "" || slices.ContainsFunc(words, func(w boot.Word) bool { return w.Name == "overlayroot" && w.Value != "" })
}
