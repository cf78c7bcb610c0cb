package state

import (
	"context"
	"errors"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// trashDepth is how many directories are entered before what lies deeper is moved up: no tree is too deep.
const trashDepth = 48

// ProgressEach is how many deletions lie between two reports of progress.
const ProgressEach = 1024

// errLimit ends an emptying that was to be bounded.
var errLimit = errors.New("limit reached")

// EmptyTrash deletes what is out of use: at most limit entries (0: all). progress is called after every ProgressEach of
// them with their number. It follows no link and enters nothing that is mounted, which it names, goes past and leaves. In the end it puts
// the ballast by again. left reports that there is more.
func (d *Dir) EmptyTrash(ctx context.Context, limit int, progress func(deleted int)) (left bool, deleted int, err error) {
	if err := d.makeRoom(); err != nil { // btrfs needs some even to delete
		return false, 0, err
	}
	if err := d.dropUnfinished(); err != nil {
		return false, 0, err
	}
	dir, err := d.openDir(trashDir)
	if missing(err) {
		return false, 0, nil
	}
	if err != nil {
		return false, 0, d.wrap("open", trashDir, err)
	}
	defer unix.Close(dir)
	e := &emptying{ctx: ctx, d: d, top: dir, limit: limit, progress: progress}
	err = e.all(dir, trashDir, 0)
	if errors.Is(err, errLimit) {
		return true, e.deleted, nil
	}
	return err != nil || len(e.stuck) > 0, e.deleted, errors.Join(err, errors.Join(e.stuck...), d.KeepBallast())
}

// MeasureTrash tells how much EmptyTrash would delete.
func (d *Dir) MeasureTrash() (Size, error) { return d.Measure(Step{From: trashDir, Children: true}) }

// dropUnfinished puts copies of snapshots that a stop left into the trash.
func (d *Dir) dropUnfinished() error {
	fd, err := d.openDir(snapshotsDir)
	if missing(err) {
		return nil
	}
	if err != nil {
		return d.wrap("open", snapshotsDir, err)
	}
	defer unix.Close(fd)
	var drop []string
	err = eachName(fd, func(name string) error {
		if !isTemp(name) || len(drop) >= maxSnapshots {
			return nil
		}
		id := name[len(tempPrefix):]
		if _, pending, _ := d.lstat(path.Join(asideDir, id)); checkID(id) == nil && pending {
			return nil
		}
		if _, filed, _ := d.lstat(requestPath(id)); checkID(id) == nil && filed {
			return nil
		}
		if d.busy(path.Join(snapshotsDir, name)) {
			return nil
		}
		drop = append(drop, name)
		return nil
	})
	for _, name := range drop {
		err = errors.Join(err, d.discard(path.Join(snapshotsDir, name)))
	}
	return err
}

type emptying struct {
	ctx      context.Context
	d        *Dir
	top      int // the directory that everything too deep is moved to
	deleted  int
	limit    int
	raised   int
	progress func(int)
	stuck    []error // what could not be deleted
}

// all deletes what is in a directory, round after round: a file system may skip names while others go, and what was too deep
// comes to lie here.
func (e *emptying) all(dir int, rel string, depth int) error {
	for {
		before, raised := e.deleted, e.raised
		stuck := len(e.stuck)
		err := eachName(dir, func(name string) error { return e.entry(dir, name, path.Join(rel, name), depth) })
		if err != nil {
			return err
		}
		if e.deleted == before && e.raised == raised {
			return nil
		}
		e.stuck = e.stuck[:stuck] // those that are still there will be met again
	}
}

func (e *emptying) entry(dir int, name, rel string, depth int) error {
	if err := e.ctx.Err(); err != nil {
		return err
	}
	if e.limit > 0 && e.deleted >= e.limit {
		return errLimit
	}
	err := e.unlink(dir, name, rel)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) && isDirAt(dir, name) {
		err = e.directory(dir, name, rel, depth)
	}
	switch {
	case err == nil:
		e.deleted++
		if e.progress != nil && e.deleted%ProgressEach == 0 {
			e.progress(e.deleted)
		}
		return nil
	case errors.Is(err, errRaised), errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, errLimit), e.ctx.Err() != nil, errors.Is(err, errStopped):
		return err
	}
	if len(e.stuck) < 32 {
		e.stuck = append(e.stuck, err)
	}
	return nil
}

// errRaised means that a directory went up, and will be met again.
var errRaised = errors.New("moved up")

func (e *emptying) unlink(dir int, name, rel string) error {
	if err := e.d.change("delete " + rel); err != nil {
		return err
	}
	err := unix.Unlinkat(dir, name, 0)
	if errors.Is(err, unix.EPERM) && !isDirAt(dir, name) {
		loose(dir, ".")
		loose(dir, name)
		err = unix.Unlinkat(dir, name, 0)
	}
	if errors.Is(err, unix.EISDIR) {
		return err
	}
	return e.d.wrap("delete", rel, err)
}

func (e *emptying) directory(dir int, name, rel string, depth int) error {
	if depth == trashDepth {
		return e.raise(dir, name, rel)
	}
	fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.EXDEV) {
		return e.d.wrap("delete", rel, errors.New("something is mounted there"))
	}
	if err != nil {
		return e.d.wrap("open", rel, err)
	}
	defer unix.Close(fd)
	// A btrfs subvolume is another device and no mount; rmdir(2) removes it once it is empty.
	if err := e.all(fd, rel, depth+1); err != nil {
		return err
	}
	if err := e.d.change("delete " + rel); err != nil {
		return err
	}
	err = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	if errors.Is(err, unix.EPERM) {
		loose(dir, ".")
		loose(dir, name)
		err = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	}
	return e.d.wrap("delete", rel, err)
}

func (e *emptying) raise(dir int, name, rel string) error {
	for {
		e.raised++
		if err := e.d.change("raise " + rel); err != nil {
			return err
		}
		to := ".deep-" + strconv.Itoa(e.raised)
		err := unix.Renameat2(dir, name, e.top, to, unix.RENAME_NOREPLACE)
		switch {
		case err == nil:
			return errRaised
		case errors.Is(err, unix.EPERM) && loose(dir, ".")|loose(dir, name) != 0:
		case errors.Is(err, unix.EXDEV): // out of a subvolume: as deep as it goes
			return e.d.wrap("move up", rel, err)
		case !errors.Is(err, unix.EEXIST):
			return e.d.wrap("move up", rel, err)
		}
	}
}

func isDirAt(dir int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// loose clears the flags of what is to be deleted, and reports with 1 that there were some.
func loose(dir int, name string) int {
	var st unix.Stat_t
	if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return 0
	}
	fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&fixedFlags == 0 || unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags&^fixedFlags) != nil {
		return 0
	}
	return 1
}

// destroy deletes at once what a secure reset moved aside. One of everything takes along what earlier operations, snapshots and
// the trash hold.
func (d *Dir) destroy(ctx context.Context, o *operation) error {
	for i := range o.Moves {
		if err := d.discard(o.aside(i)); err != nil {
			return err
		}
	}
	if o.All {
		names, err := d.names(asideDir, maxAside)
		if err != nil {
			return err
		}
		for _, n := range names {
			if n != o.ID {
				if err := d.discard(path.Join(asideDir, n)); err != nil {
					return err
				}
			}
		}
	}
	_, _, err := d.EmptyTrash(ctx, 0, nil)
	return err
}
