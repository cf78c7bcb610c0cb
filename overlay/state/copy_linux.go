package state

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"veneer/images/canonical"
	"veneer/overlay/entry"
)

// A SnapshotSpec says what to take into a snapshot.
type SnapshotSpec struct {
	Name     string // "": one is made from the time
	Serial   string // of the deployment that runs: its /etc is taken
	Boot     string
	Data     bool // what persist rules keep, too
	Identity bool // and identity/
	Why      string
	Now      time.Time
	Progress func(files int64)
}

// ErrNoRoom means that a snapshot does not fit. Nothing has been copied.
var ErrNoRoom = errors.New("there is no room for it")

// maxSpare is what a snapshot leaves free, or a sixteenth where that is less.
const maxSpare = 16 << 20

// CreateSnapshot copies the uppers as they are into snapshots/<name>. Blocks are shared where the file system can do that. Elsewhere
// a file that has not changed since the newest snapshot is a hard link to that snapshot's copy of it, never to the file in use:
// nobody writes to a snapshot, and what is returned to is always a copy, so no two writers ever meet in one inode. What counts as
// unchanged is a file with the same inode, size, time of modification and time of change, which no program can set; one that
// was changed within a second of the former snapshot is copied, since a time is no finer than the clock's tick.
//
// Room is checked before. Whatever goes wrong, no part of a snapshot is left under its name. The system may go on writing meanwhile:
// each file is whole in the snapshot unless it is being written, two files may be of different instants.
func (d *Dir) CreateSnapshot(ctx context.Context, spec SnapshotSpec) (s Snapshot, err error) {
	if spec.Name == "" {
		spec.Name = newID(spec.Now)
	}
	if err := CheckSnapshotName(spec.Name); err != nil {
		return s, err
	}
	if _, there, err := d.lstat(snapshotPath(spec.Name)); err != nil || there {
		return s, errors.Join(err, fmt.Errorf("there is a snapshot %q already", spec.Name))
	}
	s = Snapshot{Format: SnapshotFormat, Name: spec.Name, When: spec.Now.UTC().Format(time.RFC3339Nano), Boot: spec.Boot, Deployment: spec.Serial, Why: spec.Why}
	b, err := d.Blessed()
	s.Good = err == nil && b.Boot == spec.Boot && spec.Boot != ""
	if s.Parts, s.Covers, err = d.parts(spec); err != nil {
		return s, err
	}
	if err := d.mkdir(snapshotsDir); err != nil {
		return s, err
	}
	temp := path.Join(snapshotsDir, tempPrefix+spec.Name)
	if d.busy(temp) {
		return s, fmt.Errorf("snapshot %q is being made by another program", spec.Name)
	}
	if err := d.discard(temp); err != nil { // of one that was stopped
		return s, err
	}
	if err := d.mkdir(temp); err != nil {
		return s, err
	}
	dir, err := d.openDir(temp)
	if err != nil {
		return s, d.wrap("open", temp, err)
	}
	defer unix.Close(dir)
	if err := unix.Flock(dir, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return s, d.wrap("lock", temp, err)
	}
	defer func() {
		if err != nil && !errors.Is(err, errStopped) {
			// At once: on a full disk the room is needed now.
			if fd, ferr := d.openDir(snapshotsDir); ferr == nil {
				err = errors.Join(err, entry.Remove(fd, path.Base(temp)))
				unix.Close(fd)
			}
		}
	}()
	if err := d.copySnapshot(ctx, dir, temp, spec, &s); err != nil {
		return s, err
	}
	if err := d.change("publish " + temp); err != nil {
		return s, err
	}
	fd, err := d.openDir(snapshotsDir)
	if err != nil {
		return s, d.wrap("open", snapshotsDir, err)
	}
	defer unix.Close(fd)
	if err := unix.Renameat2(fd, path.Base(temp), fd, spec.Name, unix.RENAME_NOREPLACE); err != nil {
		return s, d.wrap("publish", snapshotPath(spec.Name), err)
	}
	return s, d.sync(fd, snapshotsDir)
}

// SnapshotParts lists what a snapshot would take.
func (d *Dir) SnapshotParts(spec SnapshotSpec) ([]string, error) {
	parts, _, err := d.parts(spec)
	return parts, err
}

// parts lists what a snapshot takes, and the kinds that it speaks for.
func (d *Dir) parts(spec SnapshotSpec) (parts, covers []string, err error) {
	covers = []string{etcDir, upperDir, mergeDir}
	if d.isDir(path.Join(etcDir, spec.Serial)) && spec.Serial != "" {
		parts = append(parts, path.Join(etcDir, spec.Serial))
	}
	if d.isDir(upperDir) {
		parts = append(parts, upperDir)
	}
	kinds := []string{mergeDir}
	if spec.Data {
		covers = append(covers, dataDir)
		kinds = append(kinds, dataDir)
	}
	for _, kind := range kinds {
		names, err := d.names(kind, maxPlaces)
		if err != nil {
			return nil, nil, err
		}
		for _, n := range names {
			if _, err := Unescape(n); err == nil {
				parts = append(parts, path.Join(kind, n))
			}
		}
	}
	if spec.Identity {
		covers = append(covers, identityDir)
		if d.isDir(identityDir) {
			parts = append(parts, identityDir)
		}
	}
	if len(parts) == 0 {
		return nil, nil, errors.New("nothing is kept on this machine that a snapshot could hold")
	}
	return parts, covers, nil
}

// trees are what is copied of a part: of an upper its files and its stamp, of anything else the whole.
func (d *Dir) trees(part string) []string {
	if kind, _, _ := strings.Cut(part, "/"); kind != identityDir && (kind != dataDir || d.looksLikeUpper(part)) {
		return []string{path.Join(part, FilesDir), path.Join(part, StampDir)}
	}
	return []string{part}
}

// copiedUpper reports whether a copy of a part, in dir, is what trees takes of an upper.
func (d *Dir) copiedUpper(dir, part string) bool {
	kind, _, _ := strings.Cut(part, "/")
	if kind != dataDir {
		return kind != identityDir
	}
	names, err := d.names(path.Join(dir, part), 2)
	return err == nil && slices.Equal(names, []string{FilesDir, StampDir})
}

func (d *Dir) copySnapshot(ctx context.Context, dir int, temp string, spec SnapshotSpec, s *Snapshot) error {
	c := &snapshotCopy{ctx: ctx, root: dir, copier: entry.Copier{Marks: true}, snapshot: s, progress: spec.Progress, now: spec.Now, links: map[[2]uint64]string{}}
	c.reflink = d.canReflink(dir)
	if !c.reflink {
		if prev, ok := d.newestSnapshot(); ok {
			if fd, err := d.openDir(snapshotPath(prev.Name)); err == nil {
				defer unix.Close(fd)
				c.prev, c.former = fd, readIndex(d, prev)
			}
		}
	}
	if err := c.fits(d); err != nil {
		return err
	}
	index, err := openBeneath2(dir, indexFile, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return d.wrap("create", path.Join(temp, indexFile), err)
	}
	f := os.NewFile(uintptr(index), indexFile)
	defer f.Close()
	c.index = bufio.NewWriter(f)
	for _, part := range s.Parts {
		for _, tree := range d.trees(part) {
			if err := d.change("copy " + tree); err != nil {
				return err
			}
			if err := c.tree(d, tree); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(c.index.Flush(), f.Sync()); err != nil {
		return d.wrap("write", path.Join(temp, indexFile), err)
	}
	if err := d.change("syncfs"); err != nil {
		return err
	}
	if err := unix.Syncfs(dir); err != nil {
		return d.wrap("syncfs", temp, err)
	}
	return d.write(path.Join(temp, snapshotFile), canonical.Write(s.walk))
}

// canReflink tries whether files can share blocks here.
func (d *Dir) canReflink(dir int) bool {
	const a, b = ".reflink-a", ".reflink-b"
	defer unix.Unlinkat(dir, a, 0)
	defer unix.Unlinkat(dir, b, 0)
	src, err := openBeneath2(dir, a, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return false
	}
	defer unix.Close(src)
	if _, err := unix.Pwrite(src, make([]byte, 4096), 0); err != nil {
		return false
	}
	dst, err := openBeneath2(dir, b, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return false
	}
	defer unix.Close(dst)
	return unix.IoctlFileClone(dst, src) == nil
}

func (d *Dir) newestSnapshot() (Snapshot, bool) {
	all, _, err := d.Snapshots()
	if err != nil || len(all) == 0 {
		return Snapshot{}, false
	}
	return all[len(all)-1], true
}

// StageRestore makes the copy that a filed restore needs, so that the boot has only renames to do. The init makes it itself when
// nobody did, or when a stop came between.
func (d *Dir) StageRestore(ctx context.Context, r Request) error {
	o := &operation{ID: r.ID, Snapshot: r.Snapshot}
	return d.stage(ctx, o, &Orders{})
}

// completeMark is written last into a staged copy.
const completeMark = "complete"

// stage copies the parts of a snapshot to where the renames take them from.
func (d *Dir) stage(ctx context.Context, o *operation, orders *Orders) error {
	dir := stagePath(o.ID)
	if _, there, err := d.lstat(path.Join(dir, completeMark)); err != nil || there {
		return err
	}
	if err := d.discard(dir); err != nil {
		return err
	}
	s, err := d.Snapshot(o.Snapshot)
	if err != nil {
		return err
	}
	orders.log("copy the snapshot %s", s.Name)
	if err := d.mkdir(dir); err != nil {
		return err
	}
	fd, err := d.openDir(dir)
	if err != nil {
		return d.wrap("open", dir, err)
	}
	defer unix.Close(fd)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return d.wrap("lock", dir, err)
	}
	copier := entry.Copier{Marks: true}
	for _, part := range s.Parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := d.change("copy " + part); err != nil {
			return err
		}
		if kind, _, under := strings.Cut(part, "/"); under {
			if err := d.mkdir(path.Join(dir, kind)); err != nil {
				return err
			}
		}
		src, name, err := d.parent(path.Join(snapshotPath(s.Name), part))
		if err != nil {
			return d.wrap("open", part, err)
		}
		to, as, err := d.parent(path.Join(dir, part))
		if err == nil {
			err = copier.Copy(src, name, to, as)
			unix.Close(to)
		}
		unix.Close(src)
		if err != nil {
			return fmt.Errorf("copy %s of the snapshot %s: %w", part, s.Name, err)
		}
		if d.copiedUpper(dir, part) { // overlayfs wants a work directory, and no snapshot has one
			if err := d.mkdir(path.Join(dir, part, WorkDir)); err != nil {
				return err
			}
		}
	}
	if err := d.change("syncfs"); err != nil {
		return err
	}
	if err := unix.Syncfs(fd); err != nil {
		return d.wrap("syncfs", dir, err)
	}
	return d.write(path.Join(dir, completeMark), nil)
}
