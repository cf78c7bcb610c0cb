package build

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"veneer/boot"
	"veneer/boot/network"
	"veneer/images/disk"
	"veneer/initramfs"
)

// Outputs beside the images, the kernel and the initramfs.
const (
	OutputStore = "store"  // an ext4 file system with the store in it
	OutputUKI   = "uki"    // kernel, initramfs and command line in one EFI program
	OutputDisk  = "disk"   // a GPT disk that firmware boots
	OutputQcow2 = outQcow2 // the same for virtual machines
	OutputZstd  = outZstd  // the same to be sent around

	OutputISO     = "iso"      // an ISO that firmware boots, as a CD and as a stick
	OutputNetboot = outNetboot // a directory that an HTTP server shows, with a script for iPXE
)

// outputs lists them.
var outputs = []string{OutputStore, OutputUKI, OutputDisk, OutputQcow2, OutputZstd, OutputISO, OutputNetboot}

// makesDisk reports whether a disk is made, in whichever form.
func (c *Config) makesDisk() bool {
	return c.has(OutputDisk) || c.has(OutputQcow2) || c.has(OutputZstd)
}

// BootConfig is what firmware finds on a UKI, a disk or an ISO.
type BootConfig struct {
	Cmdline  string   `toml:"cmdline"`        // of the kernel; with Secure Boot the only one that counts
	URL      string   `toml:"url"`            // of the directory of the netboot output on its server; empty: the server that DHCP names
	Firmware []string `toml:"firmware"`       // FirmwareUEFI, FirmwareBIOS; empty: all that the architecture has
	Stub     string   `toml:"stub"`           // systemd's; empty: that of the tree, else the host's
	Splash   string   `toml:"splash"`         // a BMP
	SBAT     string   `toml:"sbat"`           // lines for the UKI's .sbat, behind those of the stub
	Sector   int      `toml:"sector"`         // bytes of a sector of the disk: 512, 4096; 0: 512
	Free     string   `toml:"free"`           // bytes behind the store for what the machine makes; empty: what the state wants
	Menu     bool     `toml:"menu"`           // systemd-boot, and the UKI as an entry of its menu
	Timeout  int      `toml:"timeout"`        // of the menu, seconds; 0: none is shown, but to who holds a key
	Tries    int      `toml:"tries"`          // of a new UKI that the menu counts, until a bless; 0: none are counted
	Enroll   string   `toml:"enroll"`         // directory with PK.auth, KEK.auth, db.auth, which the menu offers to firmware in its setup mode
	Unasked  bool     `toml:"enroll-unasked"` // firmware in its setup mode takes them at the first boot, after a pause
	Key      string   `toml:"key"`            // signs the UKI for Secure Boot, PEM
	Cert     string   `toml:"cert"`           // of the key
}

// What a disk boots from.
const (
	FirmwareUEFI = "uefi"
	FirmwareBIOS = "bios"
)

// maxCmdline is less than what any boot loader and kernel take.
const maxCmdline = 2047

// maxTimeout is a day.
const maxTimeout = 24 * 60 * 60

// maxBootTries is more than anybody waits for.
const maxBootTries = 99

// boots reports whether a disk is to boot from a kind of firmware.
func (c *Config) boots(firmware, arch string) bool {
	if len(c.Boot.Firmware) > 0 {
		return slices.Contains(c.Boot.Firmware, firmware)
	}
	return firmware == FirmwareUEFI || arch == "amd64" && c.sector() == disk.Sector
}

// sector is that of the disk, in bytes.
func (c *Config) sector() int { return cmp.Or(c.Boot.Sector, disk.Sector) }

// freeRoom is the room behind the store.
func (c *Config) freeRoom() int64 {
	if size, err := boot.ParseSize(c.Boot.Free); err == nil {
		return size.Bytes
	}
	place, err := boot.ParsePlace(c.State.Place)
	if err != nil || !c.State.Create || place.Kind != boot.StateOnDevice || place.On.Device.Kind != boot.ByPartLabel {
		return 0
	}
	if size, err := boot.ParseSize(c.State.Size); err == nil {
		return size.Bytes
	}
	return stateBytes
}

// asked is what boot.cmdline says, as far as it can be read.
func (c *Config) asked() boot.Config {
	line, _ := boot.ParseCmdline(boot.Config{}, c.Boot.Cmdline)
	return line
}

// checkCmdline holds boot.cmdline against the initramfs of the same build: where Secure Boot is on there is no other line to boot by.
func (c *Config) checkCmdline(bad func(key, format string, args ...any)) {
	const key = "boot.cmdline"
	line, err := boot.ParseCmdline(boot.Config{}, c.Boot.Cmdline)
	if err != nil {
		bad(key, "%w", err)
	}
	if c.variant() == initramfs.Net {
		if _, err := network.Parse(line.Network); err != nil {
			bad(key, "%w", err)
		}
	}
	if line.Larger != "" && c.variant() == initramfs.Local {
		bad(key, "%s: the init of variant local cannot do that; leave variant out, or say live", line.Larger)
	}
	if line.Networked != "" && c.variant() != initramfs.Net {
		bad(key, "%s: only the init of variant net can do that", line.Networked)
	}
	if line.Unverified && !c.AllowUnsigned {
		bad(key, "veneer.verify=none: needs allow-unsigned = true")
	}
	if (line.OnFail == boot.Shell || line.Break != "") && !c.RescueShell {
		bad(key, "veneer.on-fail=shell and veneer.break= need rescue-shell = true")
	}
}

func (c *Config) checkMedia(bad func(key, format string, args ...any)) {
	for i, o := range c.Outputs {
		key := fmt.Sprintf("outputs[%d]", i)
		if !slices.Contains(outputs, o) {
			bad(key, "%q is not an output; want %s", o, quoted(outputs))
		}
	}
	b := c.Boot
	c.checkCmdline(bad)
	if (c.has(OutputISO) || c.has(OutputNetboot)) && boot.PlaceKind(c.State.Place) == boot.StateInStore && boot.Missing(c.State.Missing) != boot.MissingEphemeral {
		bad("state.place", "an ISO and a server cannot be written to: name a device, or say missing = \"ephemeral\"")
	}
	if label := c.label(); len(label) > maxLabel && (c.has(OutputStore) || c.makesDisk()) {
		bad("store", "label %q is longer than the %d bytes that the file system of the store has for it", label, maxLabel)
	}
	if len(b.Cmdline) > maxCmdline {
		bad("boot.cmdline", "%d bytes are more than the %d that a kernel takes", len(b.Cmdline), maxCmdline)
	}
	if strings.ContainsFunc(b.Cmdline, func(r rune) bool { return r < ' ' || r > '~' }) {
		bad("boot.cmdline", "%q holds what is no printable ASCII", b.Cmdline)
	}
	if b.URL != "" {
		if _, err := network.ParseURL(b.URL); err != nil {
			bad("boot.url", "%w", err)
		} else if c.variant() != initramfs.Net {
			bad("boot.url", "only the init for netboot reads it: name the output \"netboot\", or set variant = \"net\"")
		}
	}
	for i, f := range b.Firmware {
		key := fmt.Sprintf("boot.firmware[%d]", i)
		switch {
		case f != FirmwareUEFI && f != FirmwareBIOS:
			bad(key, "%q is neither uefi nor bios", f)
		case f == FirmwareBIOS && c.Architecture == "arm64":
			bad(key, "arm64 machines have no BIOS")
		}
	}
	if b.Free != "" {
		if size, err := boot.ParseSize(b.Free); err != nil || size.Bytes == 0 {
			bad("boot.free", "%q: want an amount with its unit, such as 512M", b.Free)
		}
	}
	switch {
	case c.sector() != disk.Sector && c.sector() != disk.LargeSector:
		bad("boot.sector", "%d: want %d or %d", b.Sector, disk.Sector, disk.LargeSector)
	case c.sector() == disk.LargeSector && slices.Contains(b.Firmware, FirmwareBIOS):
		bad("boot.sector", "no BIOS boots from sectors of %d bytes: set boot.firmware = [\"uefi\"]", b.Sector)
	}
	if b.Timeout < 0 || b.Timeout > maxTimeout {
		bad("boot.timeout", "%d: want seconds, up to %d", b.Timeout, maxTimeout)
	}
	if b.Tries < 0 || b.Tries > maxBootTries {
		bad("boot.tries", "%d: want a number of boots, up to %d", b.Tries, maxBootTries)
	}
	if !b.Menu && (b.Timeout != 0 || b.Enroll != "" || b.Tries != 0) {
		bad("boot.menu", "boot.timeout, boot.tries and boot.enroll are of the menu: set boot.menu = true")
	}
	if b.Unasked && b.Enroll == "" {
		bad("boot.enroll-unasked", "there is nothing to enroll: name boot.enroll")
	}
	if b.Enroll != "" && b.Key == "" {
		bad("boot.enroll", "once its keys are enrolled, firmware starts nothing that is not signed: name boot.key and boot.cert")
	}
	if (b.Key == "") != (b.Cert == "") {
		bad("boot.key", "boot.key and boot.cert go together")
	}
}

func quoted(words []string) string {
	q := make([]string, len(words))
	for i, w := range words {
		q[i] = fmt.Sprintf("%q", w)
	}
	return strings.Join(q, ", ")
}
