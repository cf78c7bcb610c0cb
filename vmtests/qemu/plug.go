package qemu

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
)

// plugs counts what Plug has used of a guest.
type plugs struct {
	mu          sync.Mutex
	disks       int             // number of the next disk
	slots, used int             // PCI slots in all, and taken
	controllers map[string]bool // shared controllers that exist
}

func newPlugs(vm VM) *plugs {
	p := &plugs{disks: len(vm.Disks), slots: vm.Slots, controllers: map[string]bool{}}
	for i, d := range vm.Disks {
		_, _ = attach(d, i, p.controllers) // Args has reported what is wrong with a disk
	}
	return p
}

// Plug attaches a disk to the running guest. A disk that is a PCI device of its own, and the first disk of a bus whose
// controller the VM does not have yet, takes one of VM.Slots.
func (g *Guest) Plug(ctx context.Context, d Disk) error {
	if g.qmp == nil {
		return fmt.Errorf("plug %s: the VM has no monitor", d.Path)
	}
	g.plugs.mu.Lock()
	defer g.plugs.mu.Unlock()
	devices, err := attach(d, g.plugs.disks, g.plugs.controllers)
	if err != nil {
		return fmt.Errorf("plug: %w", err)
	}
	node := fmt.Sprintf("disk%d", g.plugs.disks)
	g.plugs.disks++
	if _, err := g.qmp.execute(ctx, "blockdev-add", blockdev(node, d)); err != nil {
		return fmt.Errorf("plug %s: %w", d.Path, err)
	}
	for _, device := range devices {
		arguments, err := g.plugs.deviceArguments(device)
		if err != nil {
			return fmt.Errorf("plug %s: %w", d.Path, err)
		}
		if _, err := g.qmp.execute(ctx, "device_add", arguments); err != nil {
			return fmt.Errorf("plug %s: %w", d.Path, err)
		}
	}
	return nil
}

// Unplug pulls disk number i, which is on USB, out of the running guest: it is gone at once, whatever the guest was at.
func (g *Guest) Unplug(ctx context.Context, i int) error {
	if g.qmp == nil {
		return fmt.Errorf("unplug disk %d: the VM has no monitor", i)
	}
	if _, err := g.qmp.execute(ctx, "device_del", map[string]any{"id": fmt.Sprintf("usb%d", i)}); err != nil {
		return fmt.Errorf("unplug disk %d: %w", i, err)
	}
	return nil
}

// Eject takes the CD out of drive number i, whether the guest has locked the tray or not.
func (g *Guest) Eject(ctx context.Context, i int) error {
	if g.qmp == nil {
		return fmt.Errorf("eject disk %d: the VM has no monitor", i)
	}
	if _, err := g.qmp.execute(ctx, "eject", map[string]any{"device": fmt.Sprintf("disk%d", i), "force": true}); err != nil {
		return fmt.Errorf("eject disk %d: %w", i, err)
	}
	return nil
}

// TrayOpen reports whether the guest has opened the tray of drive number i.
func (g *Guest) TrayOpen(ctx context.Context, i int) (bool, error) {
	if g.qmp == nil {
		return false, fmt.Errorf("look at drive %d: the VM has no monitor", i)
	}
	text, err := g.qmp.execute(ctx, "query-block", nil)
	if err != nil {
		return false, fmt.Errorf("look at drive %d: %w", i, err)
	}
	var drives []struct {
		Device string `json:"device"`
		Open   bool   `json:"tray_open"`
	}
	if err := json.Unmarshal(text, &drives); err != nil {
		return false, fmt.Errorf("look at drive %d: %w", i, err)
	}
	for _, d := range drives {
		if d.Device == fmt.Sprintf("disk%d", i) {
			return d.Open, nil
		}
	}
	return false, fmt.Errorf("look at drive %d: there is none", i)
}

// blockdev is the twin of Disk.drive for a running QEMU.
func blockdev(node string, d Disk) map[string]any {
	readOnly := d.ReadOnly || d.Bus == CDROM
	return map[string]any{
		"node-name": node,
		"driver":    orDefault(d.Format, "raw"),
		"read-only": readOnly,
		"file":      map[string]any{"driver": "file", "filename": d.Path, "read-only": readOnly},
	}
}

// deviceArguments turns a value of -device into arguments of device_add, and gives a PCI device a slot.
func (p *plugs) deviceArguments(device string) (map[string]any, error) {
	fields := splitCommas(device)
	arguments := map[string]any{"driver": fields[0]}
	for _, field := range fields[1:] {
		key, value, _ := strings.Cut(field, "=")
		arguments[key] = value
	}
	if arguments["bus"] != nil || fields[0] == "sd-card" {
		return arguments, nil
	}
	if p.used == p.slots {
		return nil, fmt.Errorf("all %d PCI slots for hot-plugging are taken; set VM.Slots", p.slots)
	}
	arguments["bus"] = fmt.Sprintf("slot%d", p.used)
	p.used++
	return arguments, nil
}
