package stage

import (
	"context"

	"veneer/overlay"
	"veneer/overlay/rule"
)

// StateDir is the directory of a state, mounted and opened. What it does outlives a power cut at any instant: whatever was cut off
// is finished, or made anew, by the next call with the same arguments.
type StateDir interface {
	// Requests carries out what the running system filed, and what asked adds to it, and counts this boot among those that
	// nobody blessed yet. undone says in plain words what could not be done.
	Requests(ctx context.Context, asked Asked) (done []Request, undone []string, err error)

	// Upper makes the upper that spec describes fit for the base that is about to be booted: a new one, the one that is there,
	// or one that was carried over from another base.
	Upper(ctx context.Context, spec UpperSpec) (UpperDone, error)

	// Data makes what a rule binds: there already, or as the merged root has it at spec.From.
	Data(ctx context.Context, spec DataSpec) error

	// SiteRules are the rules that the site made.
	SiteRules() ([]rule.Rule, error)

	// Close gives back what is kept for a full disk, and the descriptor.
	Close() error
}

// Owner tells whose state a directory is.
type Owner struct {
	Product string // the name in the manifest
	Boot    string // ID of this boot
}

// Asked is what this boot asks of the state beside the requests that lie in it.
type Asked struct {
	Firmware   bool // the firmware asks for a reset, too
	Tries      int  // boots that nobody blessed before the last good snapshot comes back; 0 for never
	Deployment string
}

// Base is what uppers are stamped with.
type Base struct {
	Images  []string // IDs of the stack, bottom first
	Base    string   // that of the base
	Name    string
	Version string
	Serial  string
}

// UpperSpec describes an upper that is kept.
type UpperSpec struct {
	Path   string        // in the merged root
	Dir    string        // in the state
	Former []string      // directories of other deployments' uppers for the same path, to begin with a copy of the newest
	Found  overlay.Found // what the images have there
	Rule   rule.Rule     // what survives, and what happens on another base
	Base   Base
	Index  string // the file that says what the base has there; "" where nobody made one
}

// UpperDone is what became of an upper.
type UpperDone struct {
	Merge      *Merge // another base's upper was merged
	What, Why  string // what is less than was asked for
	Fresh      bool   // it was made by this boot
	Quarantine string // where the former one lies
}

// DataSpec describes what a rule binds.
type DataSpec struct {
	Name string           // in the state
	From string           // path in the merged root that it begins with
	Type overlay.FileType // of what is there
	Rule rule.Rule
}
