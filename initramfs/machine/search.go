package machine

// Looking for a file: only the larger variants do, and the local one does not link this.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/stage"
)

// Search waits until has is nil for a block device. Those that can be taken out of the machine are asked before those that cannot:
// where one of them has what is looked for, no fixed disk decides, and two of one kind are refused. Each device is asked once.
func (m *Machine) Search(ctx context.Context, what string, has func(stage.Device) error) (stage.Device, error) {
	if err := m.scan(); err != nil {
		return stage.Device{}, err
	}
	asked := map[*blockDevice]error{}
	var matched time.Time
	for {
		if err := m.drain(); err != nil {
			return stage.Device{}, err
		}
		found := m.having(asked, has)
		if len(found) > 1 {
			return stage.Device{}, twinFiles(what, found)
		}
		wait, cancel := ctx, context.CancelFunc(func() {})
		if len(found) == 1 {
			if matched.IsZero() {
				matched = time.Now()
			}
			if !storagePending() || time.Since(matched) > maxSettle {
				return found[0].device(), nil
			}
			wait, cancel = context.WithDeadline(ctx, matched.Add(maxSettle))
		}
		err := m.listen(wait)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			if len(found) == 1 {
				return found[0].device(), nil
			}
			return stage.Device{}, m.nowhere(what, asked)
		}
		if err != nil {
			return stage.Device{}, err
		}
	}
}

// having are the devices that have it, of the removable ones if any of them does.
func (m *Machine) having(asked map[*blockDevice]error, has func(stage.Device) error) []*blockDevice {
	var found [2][]*blockDevice
	for fixed, tier := range m.tiers() {
		for _, d := range tier {
			err, done := asked[d]
			if !done {
				if err = d.err; err == nil {
					err = has(d.device())
				}
				asked[d] = err
			}
			if err == nil {
				found[fixed] = append(found[fixed], d)
			}
		}
	}
	if len(found[0]) > 0 {
		return found[0]
	}
	return found[1]
}

// tiers are the devices that hold anything, those that can be taken out first, each by name. Of a hybrid ISO on a stick, which shows
// its content twice, the disk counts.
func (m *Machine) tiers() (tiers [2][]*blockDevice) {
	for _, name := range slices.Sorted(maps.Keys(m.devices)) {
		d := m.devices[name]
		if d.content.Type == "" && d.err == nil || d.content.Type == "gpt" || d.content.Type == "dos" {
			continue
		}
		if p := m.devices[d.parent]; p != nil && p.content.Type == "iso9660" && d.content.Type == "iso9660" {
			continue
		}
		fixed := 1
		if d.removable() {
			fixed = 0
		}
		tiers[fixed] = append(tiers[fixed], d)
	}
	return tiers
}

// removable reports whether people take the disk out: what the kernel calls removable, what hangs on USB, and memory cards.
func (d *blockDevice) removable() bool {
	disk := d.name
	if d.parent != "" {
		disk = d.parent
	}
	dir := filepath.Join(classBlock, disk)
	target, err := os.Readlink(dir)
	return err == nil && (strings.Contains(target, "/usb") || strings.HasPrefix(disk, "mmcblk") || readLine(filepath.Join(dir, "removable")) == "1")
}

func (d *blockDevice) device() stage.Device {
	return stage.Device{Path: d.path, FileSystem: d.content.Type, ReadOnly: d.readOnly}
}

func twinFiles(what string, found []*blockDevice) error {
	return fmt.Errorf("%w: each of them has %s, and choosing one would be luck; name the device, DEVICE:%s: %s", stage.ErrTwins, what, what, described(found))
}

// nowhere says of each device why it is not the one.
func (m *Machine) nowhere(what string, asked map[*blockDevice]error) error {
	var seen []string
	for d, err := range asked {
		if m.devices[d.name] == d {
			seen = append(seen, d.describe()+": "+err.Error())
		}
	}
	list := m.listed("looked at: ", seen, "no device with a file system appeared")
	return fmt.Errorf("%w with the file %s before the deadline (veneer.wait=); %s", stage.ErrNoDevice, what, list)
}

// Content tells what a device holds that is none of the machine's: a loop device.
func (m *Machine) Content(device string) (stage.Device, error) {
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return stage.Device{}, err
	}
	defer f.Close()
	size, err := f.Seek(0, 2)
	if err != nil {
		return stage.Device{}, err
	}
	d := blockDevice{name: filepath.Base(device), path: device, size: size, readOnly: true}
	d.err = d.sniff()
	return d.usable(boot.DeviceRef{Kind: boot.ByPath, Value: "the medium"})
}
