package dialect

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"veneer/boot"
)

// maxLabels bounds the labels that a line can ask for.
const maxLabels = 16

// isOn reads a word that is on by being there.
func isOn(v string, has bool) (bool, error) {
	if !has {
		return true, nil
	}
	switch v {
	case "1", "yes", "y", "on", "true":
		return true, nil
	case "0", "no", "n", "off", "false":
		return false, nil
	}
	return false, fmt.Errorf("want 1 or 0, yes or no, not %q", clip(v))
}

func only(v string, words ...string) error {
	if slices.Contains(words, v) {
		return nil
	}
	return fmt.Errorf("want %s, not %q", strings.Join(words, ", "), clip(v))
}

// cleanDir is a directory on a medium, without its leading slash.
func cleanDir(v string) (string, error) {
	dir := strings.Trim(v, "/")
	if dir == "" || path.Clean(dir) != dir || dir == ".." || strings.HasPrefix(dir, "../") || strings.ContainsRune(dir, 0) {
		return "", fmt.Errorf("%q is not a clean path below the root of the medium", clip(v))
	}
	return dir, nil
}

// name is a single name in a directory.
func cleanName(v string) (string, error) {
	if name, err := cleanDir(v); err == nil && name == v && !strings.Contains(v, "/") {
		return name, nil
	}
	return "", fmt.Errorf("%q is not the name of a file", clip(v))
}

// ref reads a device as others name it: dracut's CDLABEL= is a label.
func ref(v string) (boot.DeviceRef, error) {
	if label, ok := strings.CutPrefix(v, "CDLABEL="); ok {
		v = "LABEL=" + label
	}
	return boot.ParseDeviceRef(v)
}

func (p *reading) device(v string) (err error) {
	p.foreign.Device, err = ref(v)
	return err
}

func (p *reading) keepOn(v string) (err error) {
	p.foreign.Kept.Device, err = ref(v)
	p.foreign.Kept.Asked = p.foreign.Kept.Asked || err == nil
	return err
}

// server takes the URL of a directory: veneer.url=.
func (p *reading) server(v string) error {
	if !strings.HasPrefix(v, "http://") && !strings.HasPrefix(v, "https://") {
		return errors.New("only HTTP is spoken; veneer.url= names a store on an HTTP server")
	}
	if !strings.HasSuffix(v, "/") {
		return errors.New("a single file on a server is not fetched: nothing signs it; veneer.url= names a store on an HTTP server, with a slash at its end")
	}
	return p.say("veneer.url", v)
}

func (p *reading) setRoot(v string, _ bool) (err error) {
	at, live := strings.CutPrefix(v, "live:")
	switch {
	case live && strings.Contains(at, "://"), live && (strings.HasPrefix(at, "nfs:") || strings.HasPrefix(at, "torrent:")):
		return p.server(at)
	case live:
		return p.device(at)
	case p.signs[boot.Dracut] || p.signs[overlayroot]:
		p.root, err = ref(v)
		return err
	}
	return errOther
}

func (p *reading) setBreak(v string, _ bool) error {
	switch v {
	case "", "pre-pivot", "cleanup":
		return p.say("veneer.break", "switch-root")
	case "pre-mount", "mount":
		return p.say("veneer.break", "find-medium")
	}
	return fmt.Errorf("no step of ours stands for %q; give veneer.break=STEP", clip(v))
}

// setOverlay reads rd.overlay and its older name.
func (p *reading) setOverlay(v string, has bool) error {
	switch on, err := isOn(v, has); {
	case err == nil && on || v == "tmpfs":
		return nil // an upper in memory is what there is without it
	case err == nil || strings.EqualFold(v, "none"):
		return errors.New("a root without an upper is not booted; ro makes it read-only")
	}
	if opts, ok := strings.CutPrefix(v, "tmpfs:"); ok {
		for _, o := range strings.Split(opts, ",") {
			size, ok := strings.CutPrefix(o, "size=")
			if !ok {
				return fmt.Errorf("option %q of a tmpfs cannot be said here; want size=SIZE", clip(o))
			}
			if err := upperSize(p, size, true); err != nil {
				return err
			}
		}
		return nil
	}
	if !p.signs[boot.Dracut] {
		return errors.New("an upper on a device is for a live medium, root=live:; for a root of our own give veneer.state=" + clip(v))
	}
	dev, dir, _ := strings.Cut(v, ":")
	if dir != "" && dir != "auto" {
		clean, err := cleanDir(dir)
		if err != nil {
			return err
		}
		p.foreign.Kept.Dir = clean
	}
	return p.keepOn(dev)
}

func (p *reading) setMedia(v string, _ bool) error {
	if v == "removable" || v == "removable-usb" {
		return nil
	}
	return p.device(v)
}

// setOverlayroot reads KIND[:OPTION,...] of overlayroot(8), and its short form, a device with options behind commas.
func (p *reading) setOverlayroot(v string, _ bool) error {
	head, opts, _ := strings.Cut(v, ":")
	switch {
	case head == "disabled" || v == "":
		return nil
	case head == "crypt":
		return errors.New("an encrypted upper is said by veneer.state= and in veneer.toml: docs/state-disk.md")
	case head != "tmpfs" && head != "device":
		if head, opts, _ = strings.Cut(v, ","); head != "tmpfs" {
			head, opts = "device", "dev="+head+","+opts
		}
	}
	device := ""
	for _, o := range strings.Split(opts, ",") {
		name, value, has := strings.Cut(o, "=")
		var err error
		switch name {
		case "dev":
			if device = value; !strings.Contains(value, "=") && !strings.HasPrefix(value, "/") {
				device = "/dev/" + value // vdb, as overlayroot takes it
			}
			_, err = ref(device)
		case "swap":
			var on bool
			if on, err = isOn(value, has); on {
				err = p.say("veneer.swap", "")
			}
		case "timeout":
			err = wait(p, value, has)
		case "size":
			if err = upperSize(p, value, has); err == nil && head != "tmpfs" {
				err = errors.New("a size is for the tmpfs")
			}
		case "", "recurse", "debug", "driver", "dir", "fstype":
			// What becomes of the other mounts of its fstab, docs/dialects.md says. The driver is overlay, and what is kept lies in a
			// directory of ours.
		default:
			err = fmt.Errorf("option %q is unknown", clip(o))
		}
		if err != nil {
			return err
		}
	}
	if head == "tmpfs" {
		return p.say("veneer.upper", "tmpfs")
	}
	if device == "" {
		return errors.New("device: nothing says which; want dev=DEVICE")
	}
	return errors.Join(p.say("veneer.state", device), p.say("veneer.upper", "persistent"))
}

func (p *reading) setVolatile(v string, has bool) error {
	switch on, err := isOn(v, has); {
	case v == "overlay":
		return p.say("veneer.upper", "tmpfs")
	case v == "state", err == nil && !on:
		return nil
	case err == nil:
		return errors.New("a root of /usr alone is not made; overlay keeps the whole root, and forgets what is written")
	}
	return fmt.Errorf("want no, overlay or state, not %q", clip(v))
}

func (p *reading) setImmucore(v string, _ bool) error {
	size, ok := strings.CutPrefix(v, "tmpfs:")
	if !ok {
		return errors.New("an upper for one boot lies in memory: want tmpfs:SIZE")
	}
	return upperSize(p, size, true)
}

func (p *reading) isoDevice(v string) error {
	dev, err := ref(v)
	p.iso.device = dev.String()
	return err
}

func isoPath(p *reading, v string, _ bool) error {
	if _, err := cleanDir(v); err != nil || !strings.HasPrefix(v, "/") {
		return fmt.Errorf("%q is not a clean absolute path", clip(v))
	}
	p.iso.path = v
	return nil
}

// fromISO reads /dev/DEVICE/PATH, or FSTYPE:/dev/DEVICE/PATH: the device is what names one, up to the first slash behind it.
func fromISO(p *reading, v string, has bool) error {
	if kind, rest, ok := strings.Cut(v, ":/dev/"); ok && !strings.Contains(kind, "/") {
		v = "/dev/" + rest
	}
	rest, ok := strings.CutPrefix(v, "/dev/")
	if !ok {
		return isoPath(p, v, has)
	}
	parts := strings.Split(rest, "/")
	n := 1
	switch {
	case parts[0] == "disk" && len(parts) > 2:
		n = 3
	case parts[0] == "mapper":
		n = 2
	}
	if len(parts) <= n {
		return fmt.Errorf("%q names a device and no file on it", clip(v))
	}
	if err := p.isoDevice("/dev/" + strings.Join(parts[:n], "/")); err != nil {
		return err
	}
	return isoPath(p, "/"+strings.Join(parts[n:], "/"), has)
}

func toRAM(p *reading, v string, has bool) error {
	if on, err := isOn(v, has); err == nil && !on {
		return nil
	}
	return p.say("veneer.toram", "")
}

// copyToRAM reads archiso's three values: auto copies where there is room.
func copyToRAM(p *reading, v string, has bool) error {
	if v == "auto" {
		return p.say("veneer.toram", "auto")
	}
	if _, err := isOn(v, has); err != nil {
		return fmt.Errorf("want y, n or auto, not %q", clip(v))
	}
	return toRAM(p, v, has)
}

func fileName(p *reading, v string, _ bool) (err error) {
	p.foreign.Image, err = cleanName(v)
	return err
}

func listName(p *reading, v string, _ bool) (err error) {
	p.foreign.List, err = cleanName(v)
	return err
}

func layers(p *reading, v string, _ bool) (err error) {
	if p.foreign.Image, err = cleanName(v); err == nil && !strings.HasSuffix(v, ".squashfs") {
		err = fmt.Errorf("%q does not end in .squashfs", clip(v))
	}
	return err
}

func cosImage(p *reading, v string, _ bool) error {
	file, err := cleanDir(v)
	if err != nil {
		return err
	}
	p.foreign.Dir, p.foreign.Image = path.Split(file)
	if p.foreign.Dir = strings.TrimSuffix(p.foreign.Dir, "/"); p.foreign.Dir == "" {
		p.foreign.Dir = "."
	}
	return nil
}

func searchUUID(p *reading, v string, _ bool) error {
	name, err := cleanName(v)
	if err == nil && p.foreign.Marker == "" {
		p.foreign.Marker = "boot/" + name + ".uuid"
	}
	return err
}

func marker(p *reading, v string, _ bool) (err error) {
	p.foreign.Marker, err = cleanDir(v)
	return err
}

func debug(p *reading, v string, has bool) error {
	if on, err := isOn(v, has); err != nil || !on {
		return err
	}
	return p.say("veneer.debug", "")
}

func wait(p *reading, v string, _ bool) error {
	if strings.Trim(v, "0123456789") != "" || v == "" {
		return fmt.Errorf("want a number of seconds, not %q", clip(v))
	}
	return p.say("veneer.wait", v)
}

func bootWord(_ *reading, v string, _ bool) error {
	if v == "live" || v == "casper" {
		return nil
	}
	return errOther // initramfs-tools' own: local, nfs
}

func fetch(p *reading, v string, _ bool) error { return p.server(v) }

func upperSize(p *reading, v string, _ bool) error {
	if _, err := boot.ParseSize(v); err != nil {
		return err
	}
	return p.say("veneer.upper", "tmpfs:size="+v)
}

func keep(p *reading, v string, has bool) error {
	on, err := isOn(v, has)
	p.foreign.Kept.Asked = p.foreign.Kept.Asked || on
	return err
}

func keepNot(p *reading, _ string, _ bool) error {
	p.keepNothing = true
	return nil
}

func labels(p *reading, v string, _ bool) error {
	list := strings.Split(v, ",")
	if len(list) > maxLabels {
		return fmt.Errorf("more than %d labels", maxLabels)
	}
	for _, l := range list {
		if _, err := cleanName(l); err != nil {
			return fmt.Errorf("%q is not a label", clip(l))
		}
	}
	p.foreign.Kept.Labels = list
	return nil
}

func storage(p *reading, v string, _ bool) error {
	for _, s := range strings.Split(v, ",") {
		if err := only(s, "filesystem", "file", "directory"); err != nil {
			return err
		}
		p.foreign.Kept.Storage = append(p.foreign.Kept.Storage, s)
	}
	return nil
}

func encryption(_ *reading, v string, _ bool) error {
	if slices.Contains(strings.Split(v, ","), "none") {
		return nil
	}
	return errors.New("what is kept is to be encrypted, and cryptsetup of our tools layer is not on others' media")
}

func readOnlyKept(p *reading, v string, has bool) (err error) {
	p.foreign.Kept.ReadOnly, err = isOn(v, has)
	return err
}

func cowPersistent(p *reading, v string, _ bool) error {
	p.foreign.Kept.ReadOnly = v == "N"
	return only(v, "P", "N")
}

func verifyNo(_ *reading, v string, has bool) error {
	if on, err := isOn(v, has); err != nil || !on {
		return err
	}
	return errors.New("the medium's own checksums and signatures are not checked here; pin the image in veneer.toml: pins = [\"sha256:...\"]")
}

func overlayTmpfs(p *reading, v string, has bool) error {
	if on, err := isOn(v, has); err != nil || !on {
		return err
	}
	return p.say("veneer.upper", "tmpfs")
}

func overlayTmpfsFlags(p *reading, v string, _ bool) error {
	for _, o := range strings.Split(v, ",") {
		size, ok := strings.CutPrefix(o, "size=")
		if !ok {
			return fmt.Errorf("option %q of a tmpfs cannot be said here; want size=SIZE", clip(o))
		}
		if err := upperSize(p, size, true); err != nil {
			return err
		}
	}
	return nil
}
