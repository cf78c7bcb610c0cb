package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/overlay"
	"veneer/overlay/entry"
	"veneer/overlay/merge"
	"veneer/overlay/rule"
	"veneer/overlay/state"
	"veneer/stage"
)

type upperSpec struct{ stage.UpperSpec }

// Upper implements stage.StateDir.
//
//	no stamp, nothing written     a new upper; for /etc, a copy of that of the deployment that was last stamped
//	no stamp, and something there quarantine: nobody knows what it was written on
//	another product's, or written
//	under other overlay options   quarantine
//	another base                  as the rule says: merge, keep, quarantine, reset
//	taken back by an undo         merge where the rule says so, else as it is
//	the same base                 that one
//
// What the rule does not let survive is dropped then.
func (s *Keeper) Upper(ctx context.Context, given stage.UpperSpec) (stage.UpperDone, error) {
	spec := upperSpec{given}
	want := spec.Stamp()
	var done stage.UpperDone
	if err := s.container(spec.Dir); err != nil {
		return done, err
	}
	have, verdict, unread := s.Against(spec.Dir, want)
	var err error
	if verdict == state.Missing && !s.holds(path.Join(spec.Dir, state.FilesDir)) {
		if have, verdict, err = s.begin(spec, want); err != nil {
			return done, err
		}
		done.Fresh = true
	}
	change := spec.Rule.OnBaseChange()
	switch {
	case verdict == state.TakenBack:
		if change != rule.MergeChange {
			change = rule.Keep
		}
	case verdict == state.Missing && unread != nil:
		done.What, done.Why = "the former upper of "+spec.Path+" was quarantined", "its stamp cannot be read, so that nobody knows which base it was written on: "+unread.Error()
		change = rule.Quarantine
	case verdict == state.Missing:
		done.What, done.Why = "the former upper of "+spec.Path+" was quarantined", "it has no stamp, so that nobody knows which base it was written on"
		change = rule.Quarantine
	case verdict == state.ForeignStamp:
		done.What, done.Why = "the former upper of "+spec.Path+" was quarantined", fmt.Sprintf("it was written for %q, and this is %q", have.Product, want.Product)
		change = rule.Quarantine
	case verdict == state.OtherOptions:
		done.What, done.Why = "the former upper of "+spec.Path+" was quarantined", "it was written with the overlay options "+have.Options
		change = rule.Quarantine
	case verdict == state.OtherBase && change == rule.Quarantine:
		done.What, done.Why = "the former upper of "+spec.Path+" was quarantined", fmt.Sprintf("it was written on %s %s, and its rule says so", have.Product, have.Version)
	case verdict == state.Same:
		return done, s.sweep(ctx, spec)
	}
	if change == rule.MergeChange {
		done.Merge, err = s.merge(ctx, spec, have)
		if errors.Is(err, merge.ErrMarks) && verdict == state.TakenBack {
			done.What, done.Why = "the upper of "+spec.Path+" was taken back as it is", "it cannot be merged: "+err.Error()
			change, err = rule.Keep, nil
		} else if errors.Is(err, merge.ErrMarks) {
			done.What, done.Why = "the former upper of "+spec.Path+" was quarantined", err.Error()
			change, err = rule.Quarantine, nil
		}
		if err != nil {
			return done, err
		}
	}
	switch change {
	case rule.Quarantine, rule.Reset:
		if err := s.putAside(ctx, spec, change, done.Why); err != nil {
			return done, err
		}
		if err := s.makeUpper(spec); err != nil {
			return done, err
		}
		done.Fresh = true
	case rule.Keep:
		s.say("upper of %s: kept as it is on another base", spec.Path)
	}
	if err := s.stamped(spec, want); err != nil {
		return done, err
	}
	return done, s.sweep(ctx, spec)
}

// container reports what has taken the name of the directory of the state that something is to be kept in.
func (s *Keeper) container(rel string) error {
	at := s.path(path.Dir(rel))
	if info, err := os.Lstat(at); err != nil || info.IsDir() {
		return nil // whoever makes it says what is wrong
	}
	return fmt.Errorf("%s is no directory: move it away from another machine, or begin anew: veneer.reset=all", at)
}

// holds reports whether a directory of the state holds anything.
func (s *Keeper) holds(name string) bool {
	d, err := os.Open(s.path(name))
	if err != nil {
		return false
	}
	defer d.Close()
	names, err := d.Readdirnames(1)
	return err == nil && len(names) > 0
}

// begin makes an upper that is not there yet: anew, or for /etc as a copy of the newest that another deployment has.
func (s *Keeper) begin(spec upperSpec, want state.Stamp) (state.Stamp, state.Verdict, error) {
	if former := s.newest(spec.Dir); former != "" {
		if err := s.copyUpper(former, spec.Dir); err != nil {
			return state.Stamp{}, "", fmt.Errorf("copy %s, the upper of the deployment before: %w", former, err)
		}
		return s.Against(spec.Dir, want)
	}
	if err := s.makeUpper(spec); err != nil {
		return state.Stamp{}, "", err
	}
	return want, state.Same, s.stamped(spec, want)
}

// newest finds the upper of /etc, beside dir, whose stamp was written last.
func (s *Keeper) newest(dir string) (best string) {
	parent, name := path.Split(dir)
	if parent != stage.EtcDir+"/" {
		return ""
	}
	f, err := os.Open(s.path(parent))
	if err != nil {
		return ""
	}
	defer f.Close()
	names, _ := f.Readdirnames(maxUppers)
	var latest int64
	for _, n := range names {
		if n == name || boot.CheckSerial(n) != nil {
			continue
		}
		if _, err := s.ReadStamp(path.Join(stage.EtcDir, n)); err != nil {
			continue
		}
		info, err := os.Lstat(s.path(stage.EtcDir, n, state.StampDir, "stamp.json"))
		if err == nil && (best == "" || info.ModTime().UnixNano() > latest) {
			best, latest = path.Join(stage.EtcDir, n), info.ModTime().UnixNano()
		}
	}
	return best
}

const (
	maxUppers  = 4096
	tempPrefix = ".new-"
)

// copyUpper copies an upper with its stamp. It appears as a whole.
func (s *Keeper) copyUpper(from, to string) error {
	parent, name := path.Split(to)
	in, err := entry.OpenRoot(s.path(parent))
	if err != nil {
		return err
	}
	defer unix.Close(in)
	temp := tempPrefix + name
	if entry.Exists(in, temp) {
		if err := entry.Remove(in, temp); err != nil {
			return err
		}
	}
	if entry.Exists(in, name) { // empty, or it would not be asked for
		if err := entry.Remove(in, name); err != nil {
			return err
		}
	}
	c := entry.Copier{Marks: true}
	if err := c.Copy(in, path.Base(from), in, temp); err != nil {
		return err
	}
	if err := unix.Syncfs(in); err != nil {
		return err
	}
	if err := unix.Renameat(in, temp, in, name); err != nil {
		return err
	}
	return unix.Fsync(in)
}

// makeUpper makes the directories of an upper.
func (s *Keeper) makeUpper(spec upperSpec) error {
	for _, op := range overlay.NewUpper(s.path(spec.Dir), spec.Found) {
		if err := s.Apply(op); err != nil {
			return err
		}
	}
	return nil
}

// putAside moves an upper away, and its work directory and stamp with it.
func (s *Keeper) putAside(ctx context.Context, spec upperSpec, change rule.BaseChange, why string) error {
	r := state.Request{Kind: state.Quarantine, Place: spec.Dir, Why: why}
	orders := s.orders(spec.Base.Serial)
	if change == rule.Reset {
		r = state.Request{Kind: state.Reset, Scope: spec.Path, Why: "the base has changed, and the rule says reset"}
		orders.Places = []state.Place{{Path: spec.Path, Root: spec.Dir, Files: path.Join(spec.Dir, state.FilesDir)}}
	}
	out, err := s.Run(ctx, r, orders)
	return errors.Join(err, out.Err)
}
