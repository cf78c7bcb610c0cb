package state

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/images/canonical"
)

// OperationFormat is the version of the JSON form of aside/<id>/aside.json.
const OperationFormat = 1

// Limits of an operation.
const (
	maxMoves  = 16384
	maxExcept = 256
	maxHeld   = 1024
	maxAside  = 4096
)

// A phase is how far an operation has come. It is written down, durably, before the first change of the next one.
//
//	stage    the copy of a snapshot is made; a stop: the copy is thrown away and made again
//	away     what is there is moved aside; a stop: the moves are gone through again, those that were made find nothing to move
//	back     what is to be there instead is moved in; without this mark a second run of "away" would take it for what is to go
//	destroy  secure: what was moved aside is deleted; without this mark a stop would leave it lying there
//	done     all of it happened; what is missing is the entry in the journal and the removal of the request
type phase string

const (
	phaseStage   phase = "stage"
	phaseAway    phase = "away"
	phaseBack    phase = "back"
	phaseDestroy phase = "destroy"
	phaseDone    phase = "done"
)

// An operation is what a request came to mean: the renames that carry it out. It lies in aside/<id>/aside.json, and what was
// moved lies beside it: aside/<id>/0 is what the first move took.
type operation struct {
	Format   int
	ID       string
	Kind     Kind
	From     string
	What     string
	Why      string
	Phase    phase
	Of       string // the operation that this one undoes
	Snapshot string
	Secure   bool
	All      bool // secure: what earlier operations left goes too
	Moves    []move
	Held     []held
	Reseed   []string // bound directories that lose a part, which the base has to give again
}

// A move takes one entry of the state directory aside, or all that is in a directory but what is excepted. However much that is,
// the record has one line for it.
type move struct {
	From     string   // in the state directory
	Children bool     // what is in From; From itself stays
	Except   []string // patterns of path.Match for the names that stay
	Back     string   // what takes its place: an entry, or with Children a directory whose entries do; "" is nothing
	Root     string   // the upper that From is a part of, and the base that it was written on: a part only fits there
	Base     string
}

// held is a file or directory whose flags (immutable, append only) had to be cleared for a rename, and where it lies in the end.
// It is written down before the flags are cleared, so that a stop does not lose them.
type held struct {
	Path  string
	Flags int
}

func (o *operation) walk(c *canonical.Coder) {
	canonical.Number(c, "format", &o.Format)
	canonical.String(c, "id", &o.ID)
	canonical.String(c, "kind", &o.Kind)
	canonical.String(c, "from", &o.From)
	canonical.String(c, "what", &o.What)
	canonical.String(c, "why", &o.Why)
	canonical.String(c, "phase", &o.Phase)
	canonical.String(c, "of", &o.Of)
	canonical.String(c, "snapshot", &o.Snapshot)
	c.Bool("secure", &o.Secure)
	c.Bool("all", &o.All)
	canonical.List(c, "moves", &o.Moves, maxMoves, func(c *canonical.Coder, m *move) {
		pathField(c, "from", &m.From)
		c.Bool("children", &m.Children)
		pathsField(c, "except", &m.Except, maxExcept)
		pathField(c, "back", &m.Back)
		pathField(c, "root", &m.Root)
		canonical.String(c, "base", &m.Base)
	})
	canonical.List(c, "held", &o.Held, maxHeld, func(c *canonical.Coder, h *held) {
		pathField(c, "path", &h.Path)
		canonical.Number(c, "flags", &h.Flags)
	})
	pathsField(c, "reseed", &o.Reseed, maxPlaces)
}

// parseOperation reads a record and holds it against what this package writes: it decides what is renamed to where.
func parseOperation(text []byte) (*operation, error) {
	o := &operation{}
	if err := canonical.Read(text, o.walk); err != nil {
		return nil, err
	}
	if o.Format != OperationFormat {
		return nil, fmt.Errorf("record has format %d, this veneer knows %d", o.Format, OperationFormat)
	}
	if err := checkID(o.ID); err != nil {
		return nil, err
	}
	switch o.Phase {
	case phaseStage, phaseAway, phaseBack, phaseDestroy, phaseDone:
	default:
		return nil, fmt.Errorf("unknown phase %q", clip(string(o.Phase)))
	}
	for _, m := range o.Moves {
		for _, p := range []string{m.From, m.Back, m.Root} {
			if p != "" && (path.Clean(p) != p || path.IsAbs(p) || p == "." || p == ".." || strings.HasPrefix(p, "../")) {
				return nil, fmt.Errorf("%q is no place in a state directory", clip(p))
			}
		}
		switch kind, _, _ := strings.Cut(m.From, "/"); kind {
		case etcDir, upperDir, mergeDir, dataDir, identityDir, snapshotsDir:
		default:
			return nil, fmt.Errorf("%q is nothing that an operation moves", clip(m.From))
		}
		for _, e := range m.Except {
			if _, err := path.Match(e, ""); err != nil {
				return nil, fmt.Errorf("pattern %q: %w", clip(e), err)
			}
		}
	}
	return o, nil
}

func (o *operation) dir() string        { return path.Join(asideDir, o.ID) }
func (o *operation) aside(i int) string { return path.Join(o.dir(), strconv.Itoa(i)) }
func (o *operation) record() string     { return path.Join(o.dir(), "aside.json") }

// undoable reports whether the operation left something that can be brought back.
func (o *operation) undoable() bool { return o.Phase == phaseDone && !o.Secure && len(o.Moves) > 0 }

func (d *Dir) save(o *operation, p phase) error {
	o.Phase = p
	return d.write(o.record(), canonical.Write(o.walk))
}

// operations reads the records of what lies aside, oldest first. A directory without one is what a stop left before the first
// rename: it holds nothing.
func (d *Dir) operations() ([]*operation, []Problem, error) {
	names, err := d.names(asideDir, maxAside)
	if err != nil {
		return nil, nil, err
	}
	var all []*operation
	var problems []Problem
	for _, n := range names {
		rel := path.Join(asideDir, n)
		if checkID(n) != nil {
			problems = append(problems, Problem{rel, errNotOurs})
			continue
		}
		o, err := d.operation(n)
		if err != nil {
			problems = append(problems, Problem{rel, err})
			continue
		}
		if o != nil {
			all = append(all, o)
		}
	}
	return all, problems, nil
}

// operation reads one record; nil is none.
func (d *Dir) operation(id string) (*operation, error) {
	probe := operation{ID: id}
	if _, there, err := d.lstat(probe.record()); err != nil || !there {
		return nil, err
	}
	text, err := d.read(probe.record(), 8*maxSmall)
	if err != nil {
		return nil, err
	}
	o, err := parseOperation(text)
	if err == nil && o.ID != id {
		err = fmt.Errorf("it is the record of %s", o.ID)
	}
	return o, err
}

// takeAway makes the i-th move away. What is no longer there was moved before a stop.
func (d *Dir) takeAway(o *operation, i int) error {
	m := o.Moves[i]
	if m.Children {
		return d.moveChildren(o, m.From, o.aside(i), m.Except)
	}
	return d.moveEntry(o, m.From, o.aside(i))
}

// bringBack moves what takes the place of the i-th move in.
func (d *Dir) bringBack(o *operation, i int) error {
	m := o.Moves[i]
	switch {
	case m.Back == "":
		return nil
	case m.Children:
		return d.moveChildren(o, m.Back, m.From, nil)
	}
	return d.moveEntry(o, m.Back, m.From)
}

func (d *Dir) moveEntry(o *operation, from, to string) error {
	src, name, err := d.parent(from)
	if missing(err) {
		return nil
	}
	if err != nil {
		return d.wrap("move", from, err)
	}
	defer unix.Close(src)
	dst, as, err := d.parent(to)
	if err != nil {
		return d.wrap("move "+from+" to", to, err)
	}
	defer unix.Close(dst)
	if err := d.rename(o, src, name, from, dst, as, to); err != nil {
		return err
	}
	if err := d.sync(dst, to); err != nil {
		return err
	}
	return d.sync(src, from)
}

// moveChildren moves the entries of one directory into another. Round follows round until one finds nothing more: a file system
// may skip names while others leave.
func (d *Dir) moveChildren(o *operation, from, to string, except []string) error {
	src, err := d.openDir(from)
	if missing(err) {
		return nil
	}
	if err != nil {
		return d.wrap("move what is in", from, err)
	}
	defer unix.Close(src)
	if err := d.mkdir(to); err != nil {
		return err
	}
	dst, err := d.openDir(to)
	if err != nil {
		return d.wrap("open", to, err)
	}
	defer unix.Close(dst)
	for moved := true; moved; {
		moved = false
		err := eachName(src, func(name string) error {
			if matches(except, name) {
				return nil
			}
			moved = true
			return d.rename(o, src, name, path.Join(from, name), dst, name, path.Join(to, name))
		})
		if err != nil {
			return err
		}
	}
	if err := d.sync(dst, to); err != nil {
		return err
	}
	return d.sync(src, from)
}

func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, _ := path.Match(p, name); ok {
			return true
		}
	}
	return false
}

// rename moves one entry. Flags that forbid it are cleared on the entry and its two directories, and only there. Where something
// took the name at the destination meanwhile (the system ran although an operation had failed), the entry goes beside it.
func (d *Dir) rename(o *operation, src int, name, from string, dst int, as, to string) error {
	loosened := false
	for try := 0; ; {
		if err := d.change("rename " + from); err != nil {
			return err
		}
		err := unix.Renameat2(src, name, dst, as, unix.RENAME_NOREPLACE)
		switch {
		case err == nil || errors.Is(err, unix.ENOENT):
			return nil
		case errors.Is(err, unix.EPERM) && !loosened:
			loosened = true
			if err := d.loosen(o, src, name, from, dst, to); err != nil {
				return err
			}
		case errors.Is(err, unix.EEXIST) && try < 9 && strings.HasPrefix(to, asideDir+"/"):
			try++
			as = path.Base(to) + "~" + strconv.Itoa(try)
		case errors.Is(err, unix.EEXIST) && try < 9:
			try++
			if err := d.evict(o, dst, as, to, try); err != nil {
				return err
			}
		case errors.Is(err, unix.EBUSY):
			return d.wrap("move", from, fmt.Errorf("something is mounted there, or it is in use: %w", err))
		default:
			return d.wrap("move "+from+" to", to, err)
		}
	}
}

// evict moves what took a name that something is to come back to.
func (d *Dir) evict(o *operation, dir int, name, rel string, try int) error {
	aside, err := d.openDir(o.dir())
	if err != nil {
		return d.wrap("open", o.dir(), err)
	}
	defer unix.Close(aside)
	if err := d.change("evict " + rel); err != nil {
		return err
	}
	err = unix.Renameat2(dir, name, aside, name+"~"+strconv.Itoa(try), unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		return nil // the next try takes the next number
	}
	return d.wrap("make room at", rel, err)
}

// loosen clears the flags that keep an entry where it is, having written down where they belong in the end.
func (d *Dir) loosen(o *operation, src int, name, from string, dst int, to string) error {
	type target struct {
		dir         int
		name, final string
	}
	for _, t := range []target{{src, ".", path.Dir(from)}, {src, name, to}, {dst, ".", path.Dir(to)}} {
		var st unix.Stat_t
		if err := unix.Fstatat(t.dir, t.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return d.wrap("look at", t.final, err)
		}
		if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
			continue // no other file has flags
		}
		fd, err := openBeneath(t.dir, t.name, unix.O_RDONLY|unix.O_NONBLOCK)
		if err != nil {
			return d.wrap("open", t.final, err)
		}
		err = d.loosenOpen(o, fd, t.final)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// fixedFlags are those of chattr(1) that forbid a rename (FS_IMMUTABLE_FL and FS_APPEND_FL of linux/fs.h).
const fixedFlags = 0x10 | 0x20

func (d *Dir) loosenOpen(o *operation, fd int, final string) error {
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&fixedFlags == 0 {
		return nil // a file system without flags, or another reason: the rename will say it
	}
	if h := (held{final, flags & fixedFlags}); len(o.Held) < maxHeld && !slices.Contains(o.Held, h) {
		o.Held = append(o.Held, h)
		if err := d.save(o, o.Phase); err != nil {
			return err
		}
	}
	if err := d.change("clear flags " + final); err != nil {
		return err
	}
	return d.wrap("clear flags of", final, unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags&^fixedFlags))
}

// tighten gives back the flags that had to be cleared.
func (d *Dir) tighten(o *operation) error {
	for _, h := range o.Held {
		st, there, err := d.lstat(h.Path)
		if kind := st.Mode & unix.S_IFMT; err != nil || !there || kind != unix.S_IFREG && kind != unix.S_IFDIR {
			continue
		}
		fd, err := d.openat(h.Path, unix.O_RDONLY|unix.O_NONBLOCK)
		if err != nil {
			return d.wrap("open", h.Path, err)
		}
		flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
		if err == nil && flags&fixedFlags != h.Flags&fixedFlags {
			if err = d.change("set flags " + h.Path); err == nil {
				err = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags&^fixedFlags|h.Flags&fixedFlags)
			}
		}
		unix.Close(fd)
		if err != nil {
			return d.wrap("set flags of", h.Path, err)
		}
	}
	return nil
}
