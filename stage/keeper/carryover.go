package keeper

// The merge of an upper with another base, and what its stamp keeps for the next one.

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
	"veneer/overlay/identity"
	"veneer/overlay/merge"
	"veneer/overlay/rule"
	"veneer/overlay/state"
	"veneer/stage"
)

// setID is a short name for a stack of images.
func setID(images []string) string {
	sum := sha256.Sum256([]byte(strings.Join(images, "\n")))
	return hex.EncodeToString(sum[:8])
}

// memory names the directory in which a stamp keeps what the next merge needs of this base.
func (spec upperSpec) memory(images []string) string {
	return path.Join(spec.Dir, state.StampDir, setID(images))
}

func (spec upperSpec) merging(s *Keeper) merge.Spec {
	return merge.Spec{Path: spec.Path, Upper: s.path(spec.Dir, state.FilesDir), Scratch: s.path(spec.Dir, state.StampDir, "scratch"),
		Lowers: spec.Found.At, Entries: spec.Rule.Entries, Owned: s.owned()}
}

// owned are the files that make the machine's identity. The init, which knows the presets, sets them behind a merge; here the usual
// ones count, and the hostname where the state keeps one.
func (s *Keeper) owned() []string {
	settings := identity.Complete(nil, true)
	if s.Has(path.Join(stage.IdentityDir, identity.Hostname)) {
		settings = append(settings, identity.Setting{Name: identity.Hostname, Mode: identity.Persist})
	}
	return identity.Owned(settings)
}

// merge carries an upper over from the base that its stamp names. The record of it stays beside the stamp.
func (s *Keeper) merge(ctx context.Context, spec upperSpec, have state.Stamp) (*stage.Merge, error) {
	ms := spec.merging(s)
	// A plan that a cut has left is of two sets of images, and worth nothing to others with the same base.
	ms.From, ms.To = setID(have.Lowers), setID(spec.Base.Images)
	if err := os.MkdirAll(ms.Scratch, 0o700); err != nil {
		return nil, err
	}
	old := spec.memory(have.Lowers)
	index, err := merge.OpenIndex(s.path(old, "index"))
	switch {
	case err == nil:
		defer index.Close()
		ms.Old = index
	case !errors.Is(err, fs.ErrNotExist):
		s.say("index of the old base: %v", err) // the report says that the merge had two sides only
	}
	ms.OldEntries = s.path(old, "entries")
	report, err := merge.Run(ctx, ms)
	if err != nil {
		return nil, err
	}
	report.From, report.To = changedImage(have, spec.Stamp())
	where := path.Join(spec.Dir, state.StampDir, "report.json")
	if err := s.replace(where, report.Encode()); err != nil {
		return nil, err
	}
	n := report.Counts
	return &stage.Merge{Path: spec.Path, From: report.From, To: report.To, KeptLocal: n.KeptLocal, TookNew: n.TookNew, Pruned: n.Pruned,
		DeletedLocal: n.DeletedLocal, Merged: n.Merged, Conflict: n.Conflict, TypeClash: n.TypeClash, Report: path.Join(stage.RunDir, "state", where)}, nil
}

// changedImage tells what an upper came from and goes to: the IDs of the bases, or, where they are the same one, those of the topmost
// image that each stack has alone; a stack that has none, or the same in another order, is known by its set.
func changedImage(have, want state.Stamp) (from, to string) {
	if have.Base != want.Base {
		return have.Base, want.Base
	}
	alone := func(of, other []string) string {
		for i := len(of) - 1; i >= 0; i-- {
			if !slices.Contains(other, of[i]) {
				return of[i]
			}
		}
		return setID(of)
	}
	return alone(have.Lowers, want.Lowers), alone(want.Lowers, have.Lowers)
}

// stamped keeps what the next merge needs of this base, and then writes the stamp, which makes the upper this base's.
func (s *Keeper) stamped(spec upperSpec, want state.Stamp) error {
	if spec.Rule.OnBaseChange() == rule.MergeChange {
		if err := s.remember(spec); err != nil {
			return fmt.Errorf("keep what the next merge needs: %w", err)
		}
	}
	if err := s.WriteStamp(spec.Dir, want); err != nil {
		return err
	}
	return s.forget(spec)
}

// remember copies the index of the base, and its files that are merged by entry.
func (s *Keeper) remember(spec upperSpec) error {
	dir := spec.memory(spec.Base.Images)
	if err := os.MkdirAll(s.path(path.Dir(dir)), 0o700); err != nil {
		return err
	}
	in, err := entry.OpenRoot(s.path(path.Dir(dir)))
	if err != nil {
		return err
	}
	defer unix.Close(in)
	name, temp := path.Base(dir), tempPrefix+path.Base(dir)
	if entry.Exists(in, name) {
		return nil
	}
	if entry.Exists(in, temp) {
		if err := entry.Remove(in, temp); err != nil {
			return err
		}
	}
	if err := unix.Mkdirat(in, temp, 0o700); err != nil {
		return err
	}
	ms := spec.merging(s)
	if err := ms.SaveEntries(s.path(path.Dir(dir), temp, "entries")); err != nil {
		return err
	}
	if text, err := readIndex(spec.Index); err != nil {
		return err
	} else if text != nil {
		if err := os.WriteFile(s.path(path.Dir(dir), temp, "index"), text, 0o600); err != nil {
			return err
		}
	}
	if err := unix.Syncfs(in); err != nil {
		return err
	}
	if err := unix.Renameat(in, temp, in, name); err != nil {
		return err
	}
	return unix.Fsync(in)
}

// readIndex reads the index that travels with the images; without one it is nil.
func readIndex(name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// forget drops what was needed of earlier bases.
func (s *Keeper) forget(spec upperSpec) error {
	in, err := entry.OpenRoot(s.path(spec.Dir, state.StampDir))
	if err != nil {
		return err
	}
	defer unix.Close(in)
	names, err := entry.Names(in)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range names {
		if len(n) == 16 && n != setID(spec.Base.Images) || n == "scratch" {
			errs = append(errs, entry.Remove(in, n))
		}
	}
	return errors.Join(errs...)
}
