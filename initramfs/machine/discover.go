package machine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/initramfs/machine/probe"
	"veneer/stage"
)

const (
	classBlock = "/sys/class/block"
	sectorSize = 512 // the unit of /sys/class/block/*/size, whatever the device's own

	// maxSettle bounds how long a device that answers is held back because another, already announced, might answer too.
	maxSettle = 5 * time.Second
	// maxListed bounds the candidates that an error names.
	maxListed = 24
)

// blockDevice is a block device that was looked at.
type blockDevice struct {
	name      string // of the kernel: vda1
	path      string // /dev/vda1
	parent    string // kernel name of the disk that this is a partition of
	size      int64
	readOnly  bool
	content   probe.Content
	err       error // why its content is not known
	partition probe.Partition
}

// Device implements stage.Machine.
func (m *Machine) Device(ctx context.Context, ref boot.DeviceRef) (stage.Device, error) {
	d, err := m.find(ctx, ref)
	if err != nil {
		return stage.Device{}, err
	}
	return d.usable(ref)
}

// find waits until one device answers to ref.
func (m *Machine) find(ctx context.Context, ref boot.DeviceRef) (*blockDevice, error) {
	if err := m.scan(); err != nil {
		return nil, err
	}
	var matched time.Time
	for {
		if err := m.drain(); err != nil {
			return nil, err
		}
		found := m.answering(ref)
		if len(found) > 1 {
			if found = putIn(found); len(found) > 1 {
				return nil, twins(ref, found)
			}
			m.Detail("of several equal media the one that was put in is meant: %s", found[0].path)
		}
		wait, cancel := ctx, context.CancelFunc(func() {})
		if len(found) == 1 {
			if matched.IsZero() {
				matched = time.Now()
			}
			if !storagePending() || time.Since(matched) > maxSettle {
				return found[0], nil
			}
			wait, cancel = context.WithDeadline(ctx, matched.Add(maxSettle))
		}
		err := m.listen(wait)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			if len(found) == 1 {
				return found[0], nil
			}
			return nil, m.missing(ref)
		}
		if err != nil {
			return nil, err
		}
	}
}

// drain handles the events that are there already.
func (m *Machine) drain() error {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		if err := m.listen(now); errors.Is(err, context.Canceled) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// scan looks at each block device that is there.
func (m *Machine) scan() error {
	entries, err := os.ReadDir(classBlock)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list block devices: %w", err)
	}
	for _, e := range entries {
		if m.devices[e.Name()] == nil {
			m.look(e.Name())
		}
	}
	return nil
}

// look reads what a block device holds. Devices without hardware behind them (loop, ram, dm) are never candidates.
func (m *Machine) look(name string) {
	dir := filepath.Join(classBlock, name)
	target, err := os.Readlink(dir)
	if err != nil || strings.Contains(target, "/virtual/") {
		return
	}
	d := &blockDevice{name: name, path: "/dev/" + name}
	for key, value := range readVars(filepath.Join(dir, "uevent")) {
		switch key {
		case "DEVNAME":
			d.path = "/dev/" + value
		case "DEVTYPE":
			if value == "partition" {
				d.parent = filepath.Base(filepath.Dir(target))
			}
		case "PARTNAME":
			d.partition.Name = value
		case "PARTN":
			d.partition.Number, _ = strconv.Atoi(value)
		}
	}
	sectors, _ := strconv.ParseInt(readLine(filepath.Join(dir, "size")), 10, 64)
	d.size = sectors * sectorSize
	d.readOnly = readLine(filepath.Join(dir, "ro")) == "1"
	m.devices[name] = d
	d.err = d.sniff()
	if d.content.Type == "iso9660" { // of a hybrid ISO the partition is to be seen no later than the disk
		_ = m.scan()
	}
}

func (d *blockDevice) sniff() error {
	if d.size == 0 {
		return errors.New("no medium")
	}
	f, err := os.OpenFile(d.path, os.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENOMEDIUM) {
		return errors.New("no medium")
	}
	if err != nil {
		return err
	}
	defer f.Close()
	d.content, err = probe.Sniff(f, d.size)
	return err
}

// answering returns the devices that ref names, by name.
func (m *Machine) answering(ref boot.DeviceRef) []*blockDevice {
	var found []*blockDevice
	for _, name := range slices.Sorted(maps.Keys(m.devices)) {
		if d := m.devices[name]; m.answers(d, ref) {
			found = append(found, d)
		}
	}
	// A hybrid ISO on a stick shows its label twice, on the disk and on its first partition. While the disk is mounted nobody can
	// claim another partition of it, for a state.
	found = slices.DeleteFunc(found, func(d *blockDevice) bool {
		return d.content.Type == "iso9660" && slices.ContainsFunc(found, func(o *blockDevice) bool { return o.parent == d.name })
	})
	return found
}

func (m *Machine) answers(d *blockDevice, ref boot.DeviceRef) bool {
	switch ref.Kind {
	case boot.ByPath:
		return d.path == ref.Value
	case boot.ByLabel:
		return d.err == nil && d.content.Label == ref.Value
	case boot.ByUUID:
		return d.err == nil && strings.EqualFold(d.content.UUID, ref.Value)
	case boot.ByPartLabel:
		return d.parent != "" && m.entry(d).Name == ref.Value
	case boot.ByPartUUID:
		return d.parent != "" && strings.EqualFold(m.entry(d).UUID, ref.Value)
	}
	return false
}

// entry returns the partition's entry in the table of its disk. The kernel's own uevents know the name only with its
// non-ASCII characters bent, and before 6.9 no UUID.
func (m *Machine) entry(d *blockDevice) probe.Partition {
	if d.partition.UUID != "" {
		return d.partition
	}
	disk := m.devices[d.parent]
	if disk == nil {
		return d.partition
	}
	f, err := os.Open(disk.path)
	if err != nil {
		return d.partition
	}
	defer f.Close()
	logical, err := strconv.Atoi(readLine(filepath.Join(classBlock, disk.name, "queue/logical_block_size")))
	if err != nil {
		logical = sectorSize
	}
	parts, err := probe.Partitions(f, disk.size, logical)
	if err != nil {
		m.Detail("%s: partition table: %v", disk.path, err)
		return d.partition
	}
	for _, p := range parts {
		if p.Number == d.partition.Number {
			d.partition = p
		}
	}
	return d.partition
}

// usable turns a candidate into the answer, or says why it cannot be.
func (d *blockDevice) usable(ref boot.DeviceRef) (stage.Device, error) {
	if d.err != nil {
		return stage.Device{}, fmt.Errorf("%s is %s: %w", ref, d.path, d.err)
	}
	if d.content.Type == "" {
		return stage.Device{}, fmt.Errorf("%s is %s, which holds no file system that is known here", ref, d.path)
	}
	return stage.Device{Path: d.path, FileSystem: d.content.Type, ReadOnly: d.readOnly, Label: d.content.Label, UUID: d.content.UUID}, nil
}

// storagePending reports whether a USB storage device has been announced that has not yet become a disk: it may answer to the
// same name, and which of the two comes first must not decide.
func storagePending() bool {
	classes, _ := filepath.Glob("/sys/bus/usb/devices/*/bInterfaceClass")
	for _, file := range classes {
		const massStorage = "08"
		if readLine(file) != massStorage {
			continue
		}
		if disks, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "host*/target*/*/block/*")); len(disks) == 0 {
			return true
		}
	}
	return false
}

// putIn is, of several ISOs, the only one on a disk that people put in and take out, if there is one: a copy of it that stays in the
// machine is not what they put it in for. All else answers as before.
func putIn(found []*blockDevice) []*blockDevice {
	var carried []*blockDevice
	for _, d := range found {
		if d.content.Type != "iso9660" {
			return found
		}
		if d.removable() {
			carried = append(carried, d)
		}
	}
	if len(carried) == 1 {
		return carried
	}
	return found
}

func twins(ref boot.DeviceRef, found []*blockDevice) error {
	return fmt.Errorf("%w to %s, and choosing one would be luck: %s", stage.ErrTwins, ref, described(found))
}

func described(found []*blockDevice) string {
	names := make([]string, len(found))
	for i, d := range found {
		names[i] = d.describe()
	}
	return strings.Join(names, "; ")
}

// missing lists what was there instead.
func (m *Machine) missing(ref boot.DeviceRef) error {
	var seen []string
	for _, d := range m.devices {
		seen = append(seen, d.describe())
	}
	list := m.listed("candidates, none of which answers: ", seen, "no block device appeared")
	return fmt.Errorf("%w to %s before the deadline (veneer.wait=); %s", stage.ErrNoDevice, ref, list)
}

// listed is what was seen, sorted and bounded, or what none stands for, and which drivers did not load.
func (m *Machine) listed(head string, seen []string, none string) string {
	slices.Sort(seen)
	if len(seen) > maxListed {
		seen = append(seen[:maxListed], fmt.Sprintf("and %d more", len(seen)-maxListed))
	}
	list := none + ": is the driver of its bus in the initramfs?"
	if len(seen) > 0 {
		list = head + strings.Join(seen, "; ")
	}
	if len(m.failed) > 0 {
		list += "; drivers that did not load: " + strings.Join(m.failed[:min(len(m.failed), maxListed)], "; ")
	}
	return list
}

// describe says what a candidate is, for the message that refuses it.
func (d *blockDevice) describe() string {
	var b strings.Builder
	b.WriteString(d.path + ":")
	switch {
	case d.err != nil:
		b.WriteString(" " + d.err.Error())
	case d.content.Type == "":
		b.WriteString(" nothing known")
	default:
		b.WriteString(" " + d.content.Type)
	}
	for _, p := range []struct{ key, value string }{{"LABEL", d.content.Label}, {"UUID", d.content.UUID},
		{"PARTLABEL", d.partition.Name}, {"PARTUUID", d.partition.UUID}} {
		if p.value != "" {
			fmt.Fprintf(&b, " %s=%q", p.key, p.value)
		}
	}
	return b.String()
}
