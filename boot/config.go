package boot

import "time"

// Config is what the kernel command line (and the defaults that the initramfs carries) asks of a boot.
// The zero value of a field means that nothing was said about it.
type Config struct {
	Store      StoreRef      // veneer.store=
	Root       StoreRef      // veneer.root=: the root of an installed system, in Dir of the device, in place of a store
	Swap       bool          // veneer.swap: such a system may use its swap
	Deployment string        // veneer.deployment=: serial; empty means the store's default
	Upper      Upper         // veneer.upper=; Kind "" leaves it to the manifest
	State      Place         // veneer.state=; Kind "" leaves it to the manifest
	Missing    Missing       // veneer.missing-upper=; "" leaves it to the manifest
	OnFail     OnFail        // veneer.on-fail=; "" leaves it to the manifest
	Reset      Reset         // veneer.reset= and its aliases
	Wait       time.Duration // veneer.wait=: one deadline for everything that has to appear
	Break      string        // veneer.break=: the step to stop before
	Debug      bool          // veneer.debug: print every mount as its shell equivalent
	Unverified bool          // veneer.verify=none: only honoured by an initramfs built with allow-unsigned
	ReadOnly   bool          // ro (and not rw after it): the merged root is mounted read-only
	Init       string        // init=; "" means the usual search list
	Panic      *int          // panic=: seconds before a reboot that follows a failure; nil when absent
	RootDelay  time.Duration // rootdelay=: seconds to wait before the store is looked for
	MachineID  string        // systemd.machine_id=, whatever it says
	FsckMode   FsckMode      // fsck.mode=; "" is auto
	FsckRepair FsckRepair    // fsck.repair=; "" is preen
	Foreign    *Foreign      // a medium that others built, to be booted instead of a store; see package dialect
	Network    []string      // NAME=VALUE of what only the init for netboot reads, see package network
	Medium     MediumRef     // veneer.medium=
	ToRAM      ToRAM         // veneer.toram; "" is no
	Eject      bool          // veneer.toram=...,eject
	MediumLost MediumLost    // veneer.medium-lost=; "" is ignore
	Networked  string        // the last parameter that only the init for netboot can honour
	Larger     string        // the last parameter that only a larger variant of the init can honour
}

// StoreRef says where the store is: a directory on a device.
type StoreRef struct {
	Device DeviceRef
	Dir    string // directory on that device, slash-separated, without a leading slash; "veneer" by default
}

// UpperKind is the kind of the writable layer.
type UpperKind string

// The kinds of upper.
const (
	UpperTmpfs      UpperKind = "tmpfs"      // in memory, gone at the next boot
	UpperPersistent UpperKind = "persistent" // in the state, kept
)

// Upper says what the writable layer of the root is.
type Upper struct {
	Kind UpperKind
	Size Size // of the tmpfs, which a machine with a persistent upper has too, for what is ephemeral
}

// PlaceKind is the kind of place where the state lives.
type PlaceKind string

// The kinds of place.
const (
	NoState       PlaceKind = "none"   // nothing outlives a boot
	StateInStore  PlaceKind = "store"  // in the directory of the store itself
	StateOnDevice PlaceKind = "device" // in a directory on a device of its own
)

// Place says where the state lives.
type Place struct {
	Kind PlaceKind
	On   StoreRef // of StateOnDevice
}

// Missing is what happens when the state is not there, or is broken, full, or another machine's.
type Missing string

// The policies for a missing state. Create makes one on the disk that the store is on, where there is none and there is room, and is
// Fail otherwise.
const (
	MissingWait      Missing = "wait"
	MissingFail      Missing = "fail"
	MissingEphemeral Missing = "ephemeral"
	MissingCreate    Missing = "create"
)

// OnFail is what happens when a step fails.
type OnFail string

// The policies for a failing step. Ephemeral goes on without the state where it was the state that failed, and is Reboot elsewhere.
// Fallback is a word that this version refuses: there is nothing yet to fall back to.
const (
	Poweroff  OnFail = "poweroff"
	Reboot    OnFail = "reboot"
	Halt      OnFail = "halt"
	Shell     OnFail = "shell"
	Fallback  OnFail = "fallback"
	Ephemeral OnFail = "ephemeral"
)

// FsckMode says when the file system of the state is checked. The words are those of systemd-fsck@.service(8).
type FsckMode string

// The modes. FsckAuto, which "" is too, checks what does not call itself clean.
const (
	FsckAuto  FsckMode = "auto"
	FsckForce FsckMode = "force"
	FsckSkip  FsckMode = "skip"
)

// FsckRepair says what a check may change.
type FsckRepair string

// The kinds of repair. FsckPreen, which "" is too, repairs what needs no decision.
const (
	FsckPreen FsckRepair = "preen"
	FsckYes   FsckRepair = "yes"
	FsckNo    FsckRepair = "no"
)
