package stage

import (
	"context"
	"path"
	"slices"

	"veneer/boot"
	"veneer/images"
	"veneer/overlay/rule"
)

// Set is what a boot found: a manifest that was checked, and where its parts lie.
type Set struct {
	Manifest images.Manifest
	Serial   string
	Device   Device // that the store is on
	Dir      string // of the store, mounted
	Blessed  images.Blessed

	// Backing returns the file of an image; nil where they lie in the store, under their IDs.
	Backing func(images.Image) string
	// Unverified: no block is checked when it is read.
	Unverified bool
	// Root makes the merged root of the mounted images instead of the usual steps; nil where they do.
	Root func(ctx context.Context, lowers []string) (dir string, err error)

	// Mounted are the directories of the images, bottom first, where they are no files to attach but mounted already, and
	// recorded.
	Mounted []string
	// Keeper is the program that works in a state where there is no tools layer to bring it; "" for none.
	Keeper string
	// Merged is called with the merged root before it gets its identity; nil: there is nothing to do.
	Merged func(root string) error

	from, to int // of the runner's undo: what finding it did
}

// File is the file of an image.
func (s *Set) File(img images.Image) string {
	if s.Backing != nil {
		return s.Backing(img)
	}
	return path.Join(s.Dir, images.ImagePath(img.ID))
}

// Writable says where the state will lie, and how large the tmpfs for what is written to memory may get: zero where none is made.
func Writable(env *Env, man images.Manifest) (boot.Place, boot.Size, error) {
	p, err := policyOf(env.Config, man)
	ephemeral := slices.ContainsFunc(p.rules, func(one rule.Rule) bool { return one.Action == rule.Ephemeral })
	if p.upper.Kind == boot.UpperPersistent && p.missing != boot.MissingEphemeral && !ephemeral {
		return p.place, boot.Size{}, err
	}
	return p.place, p.upper.Size, err
}

// Variant is what the larger variants of the init can do besides; the local one links none of it. Both functions run steps of
// their own with Do, and keep what they did in r for Unwind.
type Variant interface {
	// Find finds the set where it is not in a store on a block device. With nil nothing was asked that is not usual, but the
	// devices may be others than before. waiting ends with the deadline for everything that has to appear.
	Find(ctx, waiting context.Context, r *Runner, m Machine, env *Env) (*Set, error)

	// Settle may move a set whose manifest was checked elsewhere before its images are attached: into memory, or to a disk.
	Settle(ctx context.Context, r *Runner, m Machine, env *Env, set *Set) error
}

// findSet finds the set to boot.
func findSet(ctx, waiting context.Context, r *Runner, m Machine, env *Env) (set *Set, err error) {
	v, mark := env.Variant, r.mark()
	if v != nil {
		set, err = v.Find(ctx, waiting, r, m, env)
	}
	if err == nil && set == nil {
		set, err = findStore(ctx, waiting, r, m, env)
	}
	if err == nil {
		err = askTPM(waiting, r, m, env.TPM, set)
	}
	if err == nil && v != nil {
		set.from, set.to = mark, r.mark()
		err = v.Settle(ctx, r, m, env, set)
	}
	return set, err
}
