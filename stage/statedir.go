package stage

import (
	"context"

	"veneer/boot"
	"veneer/overlay"
	"veneer/overlay/rule"
	"veneer/overlay/state"
)

// StateDir is the directory of a state, mounted and opened. What it does outlives a power cut at any instant: whatever was cut off
// is finished, or made anew, by the next call with the same arguments.
type StateDir interface {
	// Requests counts this boot among those that nobody blessed yet, and carries out what the running system filed and what
	// asked adds to it.
	Requests(ctx context.Context, asked Asked) (RequestsDone, error)

	// Upper makes the upper that spec describes fit for the base that is about to be booted: a new one, the one that is there,
	// or one that was carried over from another base.
	Upper(ctx context.Context, spec UpperSpec) (UpperDone, error)

	// Data makes what a rule binds: there already, or as the merged root has it at spec.From.
	Data(ctx context.Context, spec DataSpec) error

	// Rules joins the rules of the base with those that the site made, see rule.InForce; refused says which of the site's do
	// not hold.
	Rules(ctx context.Context, base []rule.Rule, paths []string) (inForce []rule.Effective, refused string, err error)

	// Close gives back what is kept for a full disk, and the descriptor.
	Close() error
}

// Owner tells whose state a directory is.
type Owner struct {
	Product string // the name in the manifest
	Boot    string // ID of this boot
	Keeper  string // the program that does the rarer work; "" where the images bring none
}

// Asked is what this boot asks of the state beside the requests that lie in it.
type Asked struct {
	Reset      boot.Reset
	Firmware   bool // the firmware asks for a reset, too
	Tries      int  // boots that nobody blessed before the last good snapshot comes back; 0 for never
	Deployment string
	Secure     state.Secure // what a secure reset comes to
}

// Base is what uppers are stamped with.
type Base struct {
	Images  []string // IDs of the stack, bottom first
	Base    string   // that of the base
	Name    string
	Version string
	Serial  string
}

// RequestsDone is what became of requests.
type RequestsDone struct {
	Requests []Request
	Undone   []string // in plain words, what could not be done
	Destroy  string   // the key is to be destroyed, and the state made anew: the order for StateMaker.Destroy; "" is not
	Attempts int      // boots since the last bless, with this one; not known to the keeper
	Lost     string   // why the mark of the state was written anew, see OpenDir; not known to the keeper
}

// UpperSpec describes an upper that is kept.
type UpperSpec struct {
	Path  string        // in the merged root
	Dir   string        // in the state
	Found overlay.Found // what the images have there
	Rule  rule.Rule     // what survives, and what happens on another base
	Base  Base
	Index string // the file that says what the base has there; "" where nobody made one
}

// Stamp is what the upper is to remember of the base.
func (u UpperSpec) Stamp() state.Stamp {
	return state.Stamp{Product: u.Base.Name, Version: u.Base.Version, Serial: u.Base.Serial, Base: u.Base.Base,
		Lowers: u.Base.Images, Options: overlay.KeptOptions, Veneer: boot.Version}
}

// UpperDone is what became of an upper.
type UpperDone struct {
	Merge     *Merge // another base's upper was merged
	What, Why string // what is less than was asked for
	Fresh     bool   // it was made by this boot
}

// DataSpec describes what a rule binds.
type DataSpec struct {
	Name string           // in the state
	From string           // path in the merged root that it begins with
	Type overlay.FileType // of what is there
	Rule rule.Rule
	Skip []string // paths below it that have rules of their own: of what lies there nothing is taken along
}
