package boot

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
)

// params is the table of everything that the init reads from a command line; docs/parameters.md is made from it.
var params = []Param{
	{"veneer.store", "DEVICE[:/DIR]", "Where the store is: LABEL=, UUID=, PARTLABEL=, PARTUUID= or a path below /dev, and the directory on it (/veneer).",
		func(c *Config, v string, _ bool) (err error) { c.Store, err = ParseStoreRef(v); return err }},
	{"veneer.url", "http://HOST/PATH/", "A store that an HTTP server shows: the set comes from there, into memory. Only the init for netboot has it (docs/netboot.md); without a value it is off.",
		network("veneer.url")},
	{"veneer.cache", "DEVICE[:/DIR]", "With veneer.url=: the store on a disk in which what was fetched is kept, and from which the boot goes on when the server is not there.",
		network("veneer.cache")},
	{"ip", "dhcp|DEVICE:dhcp|ADDRESS:...", "With veneer.url=: how the network is set up, in the grammar of the kernel and of dracut (docs/netboot.md); dhcp on any interface by default.",
		network("ip")},
	{"BOOTIF", "MAC", "With veneer.url=: the interface that the machine was booted by, as PXELINUX and iPXE name it.",
		network("BOOTIF")},
	{"nameserver", "ADDRESS", "With veneer.url=: a DNS server that is asked before those of a lease.",
		network("nameserver")},
	{"veneer.root", "DEVICE[:/DIR]", "Boot the installed system on this partition as it is, in DIR of it (a subvolume of btrfs, say), under an upper of its own; needs the init of variant live or net, built with allow-unsigned: nothing of it is verified.",
		func(c *Config, v string, _ bool) (err error) {
			c.Larger = "veneer.root="
			c.Root, err = ParseRoot(v)
			return err
		}},
	{"veneer.swap", "", "With veneer.root=: let the system use its swap, which is off otherwise.",
		func(c *Config, v string, has bool) (err error) { c.Swap, err = parseBool(v, has); return err }},
	{"veneer.deployment", "SERIAL", "Which deployment of the store to boot, instead of its default.",
		func(c *Config, v string, _ bool) (err error) { c.Deployment, err = v, CheckSerial(v); return err }},
	{"veneer.upper", "tmpfs|persistent[:size=SIZE]", "The writable layer of the root: in memory, or kept in the state. SIZE, of the memory, in bytes, with K, M or G, or as a percentage of RAM.",
		func(c *Config, v string, _ bool) (err error) { c.Upper, err = ParseUpper(v); return err }},
	{"veneer.state", "none|store|DEVICE[:/DIR]", "Where the state is kept: nowhere, in the store, or in a directory (/veneer) of a device as veneer.store= names it.",
		func(c *Config, v string, _ bool) (err error) { c.State, err = ParsePlace(v); return err }},
	{"veneer.missing-upper", "wait|fail|ephemeral|create", "When the state is missing, full, broken or another machine's: wait for its device without a deadline, fail as veneer.on-fail= says, go on in memory and say so loudly, or make one on the store's disk.",
		func(c *Config, v string, _ bool) (err error) { c.Missing, err = ParseMissing(v); return err }},
	{"veneer.on-fail", "poweroff|reboot|halt|shell|ephemeral", "What happens when a step fails; shell needs an initramfs with a rescue shell; ephemeral goes on without the state where the state has failed, and reboots elsewhere.",
		func(c *Config, v string, _ bool) (err error) { c.OnFail, err = ParseOnFail(v); return err }},
	{"veneer.wait", "SECONDS", "One deadline for every device that has to appear (30 seconds; a unit may follow: 500ms, 2m).",
		func(c *Config, v string, _ bool) (err error) { c.Wait, err = parseSeconds(v); return err }},
	{"veneer.break", "STEP", "Open the rescue shell before this step, where one was built in; a space in the name may be written as a hyphen.",
		func(c *Config, v string, _ bool) error {
			if v == "" {
				return errors.New("want the name of a step")
			}
			c.Break = strings.ReplaceAll(v, "-", " ")
			return nil
		}},
	{"veneer.debug", "", "Print every mount as its shell equivalent.",
		func(c *Config, v string, has bool) (err error) { c.Debug, err = parseBool(v, has); return err }},
	{"veneer.verify", "none", "Check neither signature nor blocks; refused unless the initramfs was built with allow-unsigned.",
		func(c *Config, v string, _ bool) error {
			if v != "none" {
				return fmt.Errorf("want none, not %q", v)
			}
			c.Unverified = true
			return nil
		}},
	{"veneer.toram", "auto|yes|no[,eject]", "Copy the images to memory, verified, and let go of the medium: where there is room (auto), or fail where there is not (the bare word); eject opens the tray of a CD. Needs the init variant live.",
		(*Config).setToRAM},
	{"veneer.medium", "[DEVICE:]/PATH", "The store is in an ISO that is a file: on DEVICE, named as in veneer.store=, or on whichever device has it. Needs the init variant live.",
		func(c *Config, v string, _ bool) (err error) {
			c.Larger = "veneer.medium="
			c.Medium, err = ParseMedium(v)
			return err
		}},
	{"veneer.medium-lost", "ignore|poweroff|reboot", "What happens when the medium is pulled out while the system runs from it: it is said (ignore), and the machine stopped. Needs the init variant live.",
		func(c *Config, v string, _ bool) (err error) {
			if c.MediumLost, err = oneOf(v, MediumIgnore, MediumPoweroff, MediumReboot); c.MediumLost != MediumIgnore {
				c.Larger = "veneer.medium-lost="
			}
			return err
		}},
	{"veneer.reset", "SCOPE[,keep=WHAT]...[,secure][,token=TOKEN]", "Reset what is kept, as 'veneer reset' does: all, etc, data, upper or a path; keep may be given more than once. Carried out once, however long it stays on the line, until it changes or a boot goes without it; TOKEN only makes it another one.",
		func(c *Config, v string, _ bool) error {
			r, err := ParseReset(v)
			r.Off = c.Reset.Off
			c.Reset = r
			return err
		}},
	{"systemd.factory_reset", "", "The same as veneer.reset=all; 0 also turns down what the firmware asks for.",
		func(c *Config, v string, has bool) error {
			return c.aliasReset("systemd.factory_reset", ScopeAll, v, has)
		}},
	{"rd.overlay.reset", "", "The same as veneer.reset=upper, as dracut has it.",
		func(c *Config, v string, has bool) error { return c.aliasReset("rd.overlay.reset", ScopeUpper, v, has) }},
	{"init", "PATH", "The program that becomes PID 1 of the merged root, instead of the first of /sbin/init, /usr/lib/systemd/systemd, /etc/init, /bin/init; the last one counts, as it does for the kernel.",
		func(c *Config, v string, _ bool) error {
			if !path.IsAbs(v) || strings.ContainsRune(v, 0) {
				return fmt.Errorf("init %q is not an absolute path", v)
			}
			c.Init = v
			return nil
		}},
	{"ro", "", "Mount the merged root read-only.", func(c *Config, _ string, has bool) error { c.ReadOnly = c.ReadOnly || !has; return nil }},
	{"rw", "", "Mount the merged root writable (the default); the last of ro and rw counts.",
		func(c *Config, _ string, has bool) error { c.ReadOnly = c.ReadOnly && has; return nil }},
	{"quiet", "", "Do not show the steps that went well on the console.",
		func(*Config, string, bool) error { return nil }}, // the kernel's log does it: printk's level
	{"panic", "SECONDS", "How long a failure stays on the console before poweroff or reboot: 10 by default, 0 for ever, negative not at all.",
		func(c *Config, v string, _ bool) error {
			n, err := strconv.ParseInt(v, 10, 32)
			if err != nil {
				return fmt.Errorf("want a number of seconds, not %q", v)
			}
			secs := int(n)
			c.Panic = &secs
			return nil
		}},
	{"rootdelay", "SECONDS", "Wait so long before looking for the store; drivers load meanwhile.",
		func(c *Config, v string, _ bool) error {
			n, err := strconv.ParseUint(v, 10, 32)
			if err != nil || time.Duration(n)*time.Second > maxWait {
				return fmt.Errorf("want a number of seconds up to %d, not %q", maxWait/time.Second, v)
			}
			c.RootDelay = time.Duration(n) * time.Second
			return nil
		}},
	{"systemd.machine_id", "ID", "The machine's ID (docs/identity.md); with a state it is kept.",
		func(c *Config, v string, _ bool) error { c.MachineID = v; return nil }}, // what is none is systemd's to refuse
	{"fsck.mode", "auto|force|skip", "When the file system of the state is checked: if it does not call itself clean (auto), always, or never.",
		func(c *Config, v string, _ bool) (err error) {
			c.FsckMode, err = oneOf(v, FsckAuto, FsckForce, FsckSkip)
			return err
		}},
	{"fsck.repair", "preen|yes|no", "What that check may repair: what needs no decision (preen), anything, or nothing.",
		func(c *Config, v string, _ bool) (err error) {
			c.FsckRepair, err = oneOf(v, FsckPreen, FsckYes, FsckNo)
			return err
		}},
}

// network keeps a parameter for the init for netboot. Those of veneer's own no other init may pass over in silence.
func network(name string) func(*Config, string, bool) error {
	return func(c *Config, v string, _ bool) error {
		c.Network = append(c.Network, name+"="+v)
		switch {
		case v != "" && strings.HasPrefix(name, "veneer."):
			c.Networked = name + "="
		case c.Networked == name+"=":
			c.Networked = ""
		}
		return nil
	}
}

// oneOf is v as one of the words, or "" and what would have been right.
func oneOf[T ~string](v string, words ...T) (T, error) {
	names := make([]string, len(words))
	for i, w := range words {
		if names[i] = string(w); v == names[i] {
			return w, nil
		}
	}
	return "", fmt.Errorf("want %s, not %q", strings.Join(names, ", "), v)
}
