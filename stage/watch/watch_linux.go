package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/stage"
)

// Where the watch keeps what it knows, and where the site puts its hooks.
const (
	StatePath = stage.RunDir + "/watch.json"
	HooksDir  = "/etc/veneer/watch.d"
)

// Priority is that of a line in the journal, as syslog(3) counts.
type Priority int

// The priorities that the watch uses.
const (
	Crit   Priority = 2
	Err    Priority = 3
	Warn   Priority = 4
	Notice Priority = 5
)

// priorities are those of coming to a level.
var priorities = map[Level]Priority{Good: Notice, Warning: Warn, Critical: Crit}

// Seen is a place as it was seen last.
type Seen struct {
	Place
	Level   Level  `json:"level"`
	Percent int    `json:"percent"`
	Of      string `json:"of"` // bytes or files
}

// State is what the watch remembers from one look to the next, until the next boot.
type State struct {
	Format   int      `json:"format"`
	Places   []Seen   `json:"places"`
	ReadOnly []string `json:"read-only"` // paths that were made read-only, because the state is critical
}

// format is the version of the state's form.
const format = 1

// maxState bounds the size of the state, in bytes.
const maxState = 1 << 20

// Watch looks at the places of a system.
type Watch struct {
	Root   string // of the system; "/" for the running one
	Record *stage.Record
	Say    func(p Priority, line string)                   // to the journal
	Hook   func(ctx context.Context, argv ...string) error // runs a program; nil: as it is
	Mount  func(path string, readOnly bool) error          // changes a mount; nil: the kernel does
}

// ReadState returns what the last look saw. A system that nobody watched has an empty one.
func ReadState(root string) (State, error) {
	s := State{Format: format, Places: []Seen{}, ReadOnly: []string{}}
	path := filepath.Join(root, StatePath)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Size() > maxState {
		err = errors.New("too large")
	}
	if err == nil {
		err = json.NewDecoder(f).Decode(&s)
	}
	if err == nil && s.Format != format {
		err = fmt.Errorf("format %d, this veneer reads %d", s.Format, format)
	}
	if err != nil {
		return State{Format: format}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Look looks at each place once:
//
//   - leaves it to another look that is under way
//   - compares each place with the watermarks, and with what was seen last
//   - makes what is kept read-only where the policy says so, or writable again
//   - tells each crossing, then runs the hooks for it
//   - remembers what it saw
//
// What was seen is remembered before the hooks run, so that one that fails, or never ends, makes no crossing be told twice.
func (w *Watch) Look(ctx context.Context) (State, error) {
	lock, err := w.lock()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ReadState(w.Root)
	}
	if err != nil {
		return State{}, err
	}
	defer lock.Close()
	state, err := ReadState(w.Root)
	if err != nil {
		w.Say(Warn, "watch begins anew: "+err.Error())
	}
	policy := PolicyOf(w.Record.Watermarks)
	now := State{Format: format, Places: []Seen{}, ReadOnly: state.ReadOnly}
	var crossed []Seen
	var errs []error
	for _, p := range Places(w.Record) {
		seen, before, err := w.see(p, policy, state)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		now.Places = append(now.Places, seen)
		if seen.Level != before {
			crossed = append(crossed, seen)
			w.Say(priorities[seen.Level], seen.String())
		}
		if p.What == Data {
			now.ReadOnly, err = w.restrict(policy.ReadOnly && seen.Level == Critical, state.ReadOnly, seen.Level != before)
			errs = append(errs, err)
		}
	}
	errs = append(errs, w.write(now))
	for _, s := range crossed {
		errs = append(errs, w.runHooks(ctx, s))
	}
	return now, errors.Join(errs...)
}

// see compares a place with what it was.
func (w *Watch) see(p Place, policy Policy, last State) (seen Seen, before Level, err error) {
	room, err := p.Look(w.Root)
	if err != nil {
		return seen, "", err
	}
	before = Good
	for _, s := range last.Places {
		if s.Place == p && priorities[s.Level] != 0 {
			before = s.Level
		}
	}
	seen = Seen{Place: p}
	seen.Percent, seen.Of = room.Percent()
	seen.Level = policy.Next(before, seen.Percent)
	return seen, before, nil
}

// String is the line in the journal.
func (s Seen) String() string {
	what := "upper (memory for what is volatile)"
	if s.What == Data {
		what = "state"
	}
	line := fmt.Sprintf("%s: %s is %d%% full", s.Level, what, s.Percent)
	if s.Of == "files" {
		line = fmt.Sprintf("%s: %s has %d%% of its files in use", s.Level, what, s.Percent)
	}
	if s.Level != Good {
		line += "; see: veneer du"
	}
	return line
}

// lock keeps two looks apart; it is EWOULDBLOCK while there is another one. It ends with its file.
func (w *Watch) lock() (*os.File, error) {
	path := filepath.Join(w.Root, stage.RunDir, "watch.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			f.Close()
			return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
		}
		return f, nil
	}
}

// write replaces the state. It lies in memory: nothing has to survive a power cut.
func (w *Watch) write(s State) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(w.Root, StatePath)
	temp := path + ".new"
	if err := os.WriteFile(temp, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// restrict makes what rules keep read-only, or writable again, and returns what is read-only now. A mount that is being written
// to cannot be restricted: it is told once, and tried again at each look.
func (w *Watch) restrict(wanted bool, restricted []string, tell bool) ([]string, error) {
	change := w.Mount
	if change == nil {
		change = func(path string, readOnly bool) error { return setReadOnly(filepath.Join(w.Root, path), readOnly) }
	}
	now := []string{}
	var errs []error
	if !wanted {
		for _, p := range restricted {
			if err := change(p, false); err != nil {
				errs = append(errs, fmt.Errorf("make %s writable again: %w", p, err))
				now = append(now, p)
				continue
			}
			w.Say(Notice, p+" is writable again")
		}
		return now, errors.Join(errs...)
	}
	for _, p := range kept(w.Record) {
		if slices.Contains(restricted, p) {
			now = append(now, p)
			continue
		}
		err := change(p, true)
		switch {
		case err == nil:
			now = append(now, p)
			w.Say(Crit, p+" is read-only now, as the policy says: free some room (veneer du), and it becomes writable again")
		case errors.Is(err, unix.EBUSY):
			if tell {
				w.Say(Err, p+" cannot be made read-only while programs have files open for writing there; tried again each minute")
			}
		default:
			errs = append(errs, fmt.Errorf("make %s read-only: %w", p, err))
		}
	}
	return now, errors.Join(errs...)
}

// kept are the paths of which the state keeps what is written. The state's own mount stays writable: it is where a reset is
// asked for.
func kept(rec *stage.Record) []string {
	var all []string
	if rec.Upper.Kind == string(boot.UpperPersistent) {
		all = append(all, "/")
	}
	for _, r := range rec.Rules {
		if r.Action == "persist" || r.Action == "merge" {
			all = append(all, r.Path)
		}
	}
	return all
}

// setReadOnly changes one mount and nothing else of it, which mount(2) cannot do (mount_setattr(2), Linux 5.12).
func setReadOnly(path string, on bool) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if !on {
		attr = unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
	}
	err := unix.MountSetattr(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, &attr)
	if err != nil {
		return &fs.PathError{Op: "mount_setattr", Path: path, Err: err}
	}
	return nil
}
