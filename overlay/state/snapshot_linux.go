package state

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/images/canonical"
)

// Limits of snapshots.
const (
	maxSnapshots    = 1024
	maxSnapshotName = 64
)

// SnapshotFormat is the version of the JSON form of snapshots/<name>/snapshot.json.
const SnapshotFormat = 1

const (
	snapshotFile = "snapshot.json" // written last of all: a snapshot without it is none
	indexFile    = "index"
)

// A Snapshot is a generation: the uppers at a point in time, copied, and never written again.
type Snapshot struct {
	Format     int
	Name       string
	When       string // RFC 3339
	Boot       string // ID of the boot that made it
	Deployment string // serial
	Good       bool   // the boot had been blessed when it was made
	Why        string
	Parts      []string // what it has, as places of the state: etc/1, upper, merge/opt, data/var, identity
	Covers     []string // the kinds that it speaks for: of these, what it does not have was not there
	Files      int64
	Copied     int64 // bytes that were copied
	Shared     int64 // bytes that it has in common with others
}

func (s *Snapshot) walk(c *canonical.Coder) {
	canonical.Number(c, "format", &s.Format)
	canonical.String(c, "name", &s.Name)
	canonical.String(c, "when", &s.When)
	canonical.String(c, "boot", &s.Boot)
	canonical.String(c, "deployment", &s.Deployment)
	c.Bool("good", &s.Good)
	canonical.String(c, "why", &s.Why)
	pathsField(c, "parts", &s.Parts, maxPlaces)
	pathsField(c, "covers", &s.Covers, 8)
	canonical.Number(c, "files", &s.Files)
	canonical.Number(c, "copied", &s.Copied)
	canonical.Number(c, "shared", &s.Shared)
}

// parseSnapshot reads the description of a snapshot and holds it against what this package writes: it decides what is renamed.
func parseSnapshot(text []byte) (Snapshot, error) {
	var s Snapshot
	if err := canonical.Read(text, s.walk); err != nil {
		return Snapshot{}, err
	}
	if s.Format != SnapshotFormat {
		return Snapshot{}, fmt.Errorf("snapshot has format %d, this veneer knows %d", s.Format, SnapshotFormat)
	}
	for _, p := range s.Parts {
		kind, name, under := strings.Cut(p, "/")
		single := kind == upperDir || kind == identityDir
		if under == single || strings.Contains(name, "/") || under && (name == "" || name == "." || name == "..") || !slices.Contains(s.Covers, kind) {
			return Snapshot{}, fmt.Errorf("%q is no part of a state", clip(p))
		}
	}
	for _, k := range s.Covers {
		if !slices.Contains([]string{etcDir, upperDir, mergeDir, dataDir, identityDir}, k) {
			return Snapshot{}, fmt.Errorf("%q is no kind of a part of a state", clip(k))
		}
	}
	return s, CheckSnapshotName(s.Name)
}

// CheckSnapshotName reports whether a snapshot may have this name.
func CheckSnapshotName(name string) error {
	ok := name != "" && len(name) <= maxSnapshotName && name[0] != '.' && name[0] != '-'
	for i := 0; i < len(name); i++ {
		c := name[i]
		ok = ok && (c == '.' || c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z')
	}
	if !ok {
		return fmt.Errorf("snapshot %q: want up to %d letters, digits, dots, hyphens or underscores, beginning with none of the first two marks", clip(name), maxSnapshotName)
	}
	return nil
}

func snapshotPath(name string) string { return path.Join(snapshotsDir, name) }
func stagePath(id string) string      { return path.Join(snapshotsDir, tempPrefix+id) }
func isTemp(name string) bool         { return strings.HasPrefix(name, tempPrefix) }

// Snapshot reads the description of one snapshot.
func (d *Dir) Snapshot(name string) (Snapshot, error) {
	if err := CheckSnapshotName(name); err != nil {
		return Snapshot{}, err
	}
	rel := path.Join(snapshotPath(name), snapshotFile)
	text, err := d.read(rel, maxSmall)
	if errors.Is(err, fs.ErrNotExist) {
		return Snapshot{}, fmt.Errorf("there is no snapshot %q: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return Snapshot{}, err
	}
	s, err := parseSnapshot(text)
	if err == nil && s.Name != name {
		err = fmt.Errorf("it describes the snapshot %q", clip(s.Name))
	}
	return s, d.wrap("read", rel, err)
}

// Snapshots lists the snapshots, oldest first.
func (d *Dir) Snapshots() ([]Snapshot, []Problem, error) {
	names, err := d.names(snapshotsDir, maxSnapshots)
	if err != nil {
		return nil, nil, err
	}
	var all []Snapshot
	var problems []Problem
	for _, n := range names {
		s, err := d.Snapshot(n)
		if err != nil {
			problems = append(problems, Problem{snapshotPath(n), err})
			continue
		}
		all = append(all, s)
	}
	slices.SortStableFunc(all, func(a, b Snapshot) int { return strings.Compare(a.When, b.When) })
	return all, problems, nil
}

// DeleteSnapshot puts a snapshot into the trash; EmptyTrash deletes it.
func (d *Dir) DeleteSnapshot(name string) error {
	if err := CheckSnapshotName(name); err != nil {
		return err
	}
	if _, there, err := d.lstat(snapshotPath(name)); err != nil || !there {
		return errors.Join(err, fmt.Errorf("there is no snapshot %q", name))
	}
	if err := d.makeRoom(); err != nil {
		return err
	}
	return d.discard(snapshotPath(name))
}

// planRestore makes the moves of a return to a snapshot: what is there now of what the snapshot speaks for goes aside, and a copy of
// the snapshot's parts, which is made before, takes its place. The snapshot stays.
func (d *Dir) planRestore(o *operation, serial string) error {
	s, err := d.Snapshot(o.Snapshot)
	if err != nil {
		return err
	}
	back := map[string]string{}
	var order []string
	add := func(to, from string) {
		if _, there := back[to]; !there {
			order = append(order, to)
		}
		if back[to] == "" {
			back[to] = from
		}
	}
	for _, p := range s.Parts {
		to := p
		if kind, _, _ := strings.Cut(p, "/"); kind == etcDir && serial != "" {
			to = path.Join(etcDir, serial) // its stamp says of which base it is, and it is merged like any other
		}
		add(to, path.Join(stagePath(o.ID), p))
	}
	for _, kind := range s.Covers {
		switch kind {
		case upperDir, identityDir:
			add(kind, "")
		case mergeDir, dataDir:
			names, err := d.names(kind, maxPlaces)
			if err != nil {
				return err
			}
			for _, n := range names {
				add(path.Join(kind, n), "")
			}
		}
	}
	slices.Sort(order)
	for _, to := range order {
		o.Moves = append(o.Moves, move{From: to, Back: back[to]})
	}
	return nil
}

// busy reports whether a program is at work in a directory that is not finished.
func (d *Dir) busy(rel string) bool {
	fd, err := d.openDir(rel)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return errors.Is(unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
}
