package images

import (
	"errors"
	"fmt"

	"veneer/boot"
	"veneer/overlay/rule"
)

// The ways in which a state is encrypted.
const (
	UnlockNone       = "none"
	UnlockTPM2       = "tpm2"       // by the machine's TPM2
	UnlockKeyFile    = "key-file"   // by a file on another device
	UnlockPassphrase = "passphrase" // asked for on the console
	UnlockRandom     = "random"     // by nobody: a new key at each boot
)

// FullReadOnly makes the state read-only when the room is critical.
const FullReadOnly = "read-only"

// StateFileSystems are the file systems that a state can be made with.
var StateFileSystems = []string{"ext4", "btrfs", "xfs"}

// Declared reports whether there is a state at all.
func (s State) Declared() bool { return s.Place != "" && s.Place != string(boot.NoState) }

// Check reports everything that is wrong with the policy.
func (s State) Check() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &rule.FieldError{Field: "state." + field, Err: fmt.Errorf(format, args...)})
	}
	place := boot.Place{Kind: boot.NoState}
	if s.Place != "" {
		var err error
		if place, err = boot.ParsePlace(s.Place); err != nil {
			bad("place", "%w", err)
		}
	}
	if s.Missing != "" {
		if _, err := boot.ParseMissing(s.Missing); err != nil {
			bad("missing", "%w", err)
		}
	}
	if s.FileSystem != "" && !among(s.FileSystem, StateFileSystems) {
		bad("filesystem", "%q is none of ext4, btrfs, xfs", clip(s.FileSystem))
	}
	if s.Size != "" {
		if size, err := boot.ParseSize(s.Size); err != nil {
			bad("size", "%w", err)
		} else if size.Percent != 0 {
			bad("size", "%q: a share of RAM says nothing of a disk; want a number with M or G", s.Size)
		}
	}
	switch s.Unlock {
	case "", UnlockNone:
	case UnlockTPM2, UnlockKeyFile, UnlockPassphrase, UnlockRandom:
		if place.Kind != boot.StateOnDevice {
			bad("unlock", "%q needs a partition of its own: state.place = \"PARTLABEL=state\"", s.Unlock)
		}
	default:
		bad("unlock", "%q is none of none, tpm2, key-file, passphrase, random", clip(s.Unlock))
	}
	if s.Unlock != UnlockTPM2 && (s.Unlock == UnlockKeyFile) != (s.KeyFile != "") {
		bad("key-file", "goes with unlock = \"key-file\" or \"tpm2\", and the former with a key-file")
	} else if s.KeyFile != "" {
		if _, err := boot.ParseStoreRef(s.KeyFile); err != nil {
			bad("key-file", "want DEVICE:/PATH: %w", err)
		}
	}
	if s.Tries < 0 || s.Tries > maxTries {
		bad("tries", "%d: want 0 (never) to %d", s.Tries, maxTries)
	}
	for _, p := range []struct {
		field string
		value int
	}{{"warning", s.Warning}, {"critical", s.Critical}} {
		if p.value < 0 || p.value > 100 {
			bad(p.field, "%d is no percentage", p.value)
		}
	}
	if s.Warning > s.Critical {
		bad("warning", "%d %% lies above the critical %d %%", s.Warning, s.Critical)
	}
	if s.Full != "" && s.Full != FullReadOnly {
		bad("full", "%q: want nothing, or %s", clip(s.Full), FullReadOnly)
	}
	for _, g := range s.RulePaths {
		if len(g) < 2 || g[0] != '/' {
			bad("rule-paths", "%q is not an absolute path", clip(g))
		} else if err := rule.CheckGlob(g[1:]); err != nil {
			bad("rule-paths", "%w", err)
		}
	}
	if !s.Declared() && (s.Create || s.Grow || s.Size != "" || s.Tries != 0 || s.Full != "") {
		bad("place", "missing: nothing is kept, so that nothing else about the state means anything")
	}
	return errors.Join(errs...)
}

func among(s string, list []string) bool {
	for _, l := range list {
		if s == l {
			return true
		}
	}
	return false
}
