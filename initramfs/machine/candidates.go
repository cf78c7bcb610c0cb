package machine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"veneer/stage"
)

var _ stage.Scout = (*Machine)(nil)

// NextDevice implements stage.Scout.
func (m *Machine) NextDevice(ctx context.Context, seen map[string]bool) (stage.Device, error) {
	if err := m.scan(); err != nil {
		return stage.Device{}, err
	}
	var held time.Time // since when a fixed device is held back
	for {
		if err := m.drain(); err != nil {
			return stage.Device{}, err
		}
		d, removable := m.candidate(seen)
		wait, cancel := ctx, context.CancelFunc(func() {})
		if d != nil {
			if held.IsZero() {
				held = time.Now()
			}
			if removable || !storagePending() || time.Since(held) > maxSettle {
				return stage.Device{Path: d.path, FileSystem: d.content.Type, ReadOnly: d.readOnly, Label: d.content.Label, UUID: d.content.UUID,
					PartLabel: m.partLabel(d), Size: d.size}, nil
			}
			wait, cancel = context.WithDeadline(ctx, held.Add(maxSettle))
		}
		err := m.listen(wait)
		cancel()
		if d == nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
			return stage.Device{}, m.none()
		}
		if err != nil && wait.Err() == nil {
			return stage.Device{}, err
		}
		if ctx.Err() != nil { // what is there is looked at, however late it is
			held = time.Unix(1, 0)
		}
	}
}

// candidate returns the first device that is not in seen and holds a file system: a removable one where there is one.
func (m *Machine) candidate(seen map[string]bool) (first *blockDevice, removable bool) {
	for _, name := range slices.Sorted(maps.Keys(m.devices)) {
		d := m.devices[name]
		if seen[d.path] || d.err != nil || d.content.Type == "" {
			continue
		}
		if d.removable() {
			return d, true
		}
		if first == nil {
			first = d
		}
	}
	return first, false
}

func (m *Machine) partLabel(d *blockDevice) string {
	if d.parent == "" {
		return ""
	}
	return m.entry(d).Name
}

// none lists what was there.
func (m *Machine) none() error {
	var seen []string
	for _, d := range m.devices {
		seen = append(seen, d.describe())
	}
	return fmt.Errorf("%w before the deadline (veneer.wait=); %s", stage.ErrNoDevice, m.listed("block devices: ", seen, "no block device appeared"))
}
