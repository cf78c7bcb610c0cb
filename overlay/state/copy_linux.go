package state

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
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

// fileKey is what has to be the same in a file that did not change.
type fileKey struct {
	ino          uint64
	size         int64
	mtime, ctime time.Duration // since 1970
}

// snapshotCopy is a snapshot in the making.
type snapshotCopy struct {
	ctx      context.Context
	root     int
	copier   entry.Copier
	snapshot *Snapshot
	index    *bufio.Writer
	reflink  bool
	prev     int                // the newest snapshot's directory
	former   map[string]fileKey // its index
	now      time.Time
	progress func(int64)
	links    map[[2]uint64]string // files with several names: the first copy's place in the snapshot
}

// maxLinks bounds the memory for files with several names; beyond it each name becomes a file.
const maxLinks = 1 << 16

func (c *snapshotCopy) key(st *unix.Statx_t) fileKey {
	return fileKey{st.Ino, int64(st.Size), time.Duration(st.Mtime.Sec)*time.Second + time.Duration(st.Mtime.Nsec),
		time.Duration(st.Ctime.Sec)*time.Second + time.Duration(st.Ctime.Nsec)}
}

// unchanged reports whether the newest snapshot has this very file.
func (c *snapshotCopy) unchanged(rel string, st *unix.Statx_t) bool {
	former, ok := c.former[rel]
	return ok && former == c.key(st) && st.Nlink == 1 && st.Attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) == 0
}

// fits adds up what a snapshot takes, and compares.
func (c *snapshotCopy) fits(d *Dir) error {
	var bytes, files int64
	for _, part := range c.snapshot.Parts {
		for _, tree := range d.trees(part) {
			fd, err := d.openDir(tree)
			if missing(err) {
				continue
			}
			if err != nil {
				return d.wrap("open", tree, err)
			}
			err = entry.Walk(fd, func(dir int, name, rel string, est entry.Stat) (bool, error) {
				if err := c.ctx.Err(); err != nil {
					return false, err
				}
				var st unix.Statx_t
				if err := unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &st); err != nil {
					return false, err
				}
				switch {
				case est.Kind() == unix.S_IFREG && c.unchanged(path.Join(tree, rel), &st):
					return true, nil
				case est.Kind() == unix.S_IFREG && c.reflink:
				case est.Kind() == unix.S_IFREG && st.Nlink > 1:
					bytes += int64(st.Blocks) * 512 / int64(st.Nlink)
				default:
					bytes += int64(st.Blocks) * 512
				}
				files++
				bytes += 256 // a line of the index, an entry of a directory
				return true, nil
			})
			unix.Close(fd)
			if err != nil {
				return fmt.Errorf("measure %s: %w", tree, err)
			}
		}
	}
	if c.reflink {
		bytes += files * 1024 // metadata
	}
	r, err := d.room()
	if err != nil {
		return err
	}
	spare := min(maxSpare, r.size/16)
	if bytes+spare > r.bytes || files+ballastInodes > r.files {
		return fmt.Errorf("%w: it takes %d bytes and %d files, there are %d and %d, and %d bytes are to stay free", ErrNoRoom, bytes, files, r.bytes, r.files, spare)
	}
	return nil
}

// tree copies one tree of the state to the same place below the snapshot.
func (c *snapshotCopy) tree(d *Dir, tree string) error {
	src, name, err := d.parent(tree)
	if missing(err) {
		return nil
	}
	if err != nil {
		return d.wrap("open", tree, err)
	}
	defer unix.Close(src)
	if !entry.Exists(src, name) {
		return nil
	}
	parent := c.root
	for _, part := range strings.Split(path.Dir(tree), "/") {
		if part == "." {
			break
		}
		if err := unix.Mkdirat(parent, part, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("copy %s: %w", tree, err)
		}
		next, err := entry.OpenDir(parent, part)
		if err != nil {
			return err
		}
		defer unix.Close(next)
		parent = next
	}
	return c.entry(src, parent, name, tree, 0)
}

// children copies what is in one directory, and then its own owner, mode, attributes and time.
func (c *snapshotCopy) children(src, dst int, rel string, depth int) error {
	if depth > entry.MaxDepth {
		return fmt.Errorf("copy %s: %w", quote(rel), entry.ErrTooDeep)
	}
	names, err := entry.Names(src)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if err := c.entry(src, dst, name, path.Join(rel, name), depth); err != nil {
			return err
		}
	}
	return c.copier.Finish(src, "", dst, "")
}

func (c *snapshotCopy) entry(src, dst int, name, rel string, depth int) error {
	var st unix.Statx_t
	err := unix.Statx(src, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &st)
	if errors.Is(err, unix.ENOENT) {
		return nil // the system runs on
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", quote(rel), err)
	}
	c.snapshot.Files++
	if c.progress != nil && c.snapshot.Files%256 == 0 {
		c.progress(c.snapshot.Files)
	}
	switch kind := uint32(st.Mode) & unix.S_IFMT; {
	case kind == unix.S_IFDIR:
		if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
			return fmt.Errorf("copy %s: %w", quote(rel), entry.ErrOtherFileSystem)
		}
		if err := c.copier.Node(src, name, dst, name); err != nil {
			return err
		}
		from, err := entry.OpenDir(src, name)
		if err != nil {
			return err
		}
		defer unix.Close(from)
		to, err := entry.OpenDir(dst, name)
		if err != nil {
			return err
		}
		defer unix.Close(to)
		return c.children(from, to, rel, depth+1)
	case kind == unix.S_IFREG && !c.reflink && c.unchanged(rel, &st) && linkBeneath(c.prev, rel, dst, name):
		c.snapshot.Shared += int64(st.Size)
	case st.Nlink > 1 && c.twin(dst, name, &st):
		return nil
	default:
		if err := c.copier.Node(src, name, dst, name); err != nil {
			return err
		}
		if st.Nlink > 1 && len(c.links) < maxLinks {
			c.links[inode(&st)] = rel
		}
		c.count(&st)
	}
	if uint32(st.Mode)&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	// A change in the same tick of the clock as the copy would not show.
	if k := c.key(&st); time.Duration(c.now.UnixNano())-k.ctime > time.Second {
		_, err = fmt.Fprintf(c.index, "%d %d %d %d %s\n", k.ino, k.size, k.mtime, k.ctime, quote(rel))
	}
	return err
}

func inode(st *unix.Statx_t) [2]uint64 {
	return [2]uint64{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}
}

// twin gives another name to a file of this snapshot.
func (c *snapshotCopy) twin(dst int, name string, st *unix.Statx_t) bool {
	first, ok := c.links[inode(st)]
	return ok && linkBeneath(c.root, first, dst, name)
}

// linkBeneath gives the file at rel below root another name.
func linkBeneath(root int, rel string, dst int, name string) bool {
	dir, err := openBeneath(root, path.Dir(rel), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	defer unix.Close(dir)
	return unix.Linkat(dir, path.Base(rel), dst, name, 0) == nil
}

func (c *snapshotCopy) count(st *unix.Statx_t) {
	if uint32(st.Mode)&unix.S_IFMT != unix.S_IFREG {
		return
	}
	if c.reflink {
		c.snapshot.Shared += int64(st.Size)
	} else {
		c.snapshot.Copied += int64(st.Size)
	}
}

// maxIndex bounds the lines of an index that are read back: beyond it files are copied again.
const maxIndex = 4 << 20

func readIndex(d *Dir, s Snapshot) map[string]fileKey {
	fd, err := d.openat(path.Join(snapshotPath(s.Name), indexFile), unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), indexFile)
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	return parseIndex(f)
}

// parseIndex reads lines of four numbers and a path; it ends at the first that is none.
func parseIndex(r io.Reader) map[string]fileKey {
	index := map[string]fileKey{}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), 32<<10)
	for lines.Scan() && len(index) < maxIndex {
		words := strings.SplitN(lines.Text(), " ", 5)
		if len(words) != 5 {
			break
		}
		ino, err0 := strconv.ParseUint(words[0], 10, 64)
		size, err1 := strconv.ParseInt(words[1], 10, 64)
		mtime, err2 := strconv.ParseInt(words[2], 10, 64)
		ctime, err3 := strconv.ParseInt(words[3], 10, 64)
		rel, ok := entry.Unquote(words[4])
		if errors.Join(err0, err1, err2, err3) != nil || !ok {
			break
		}
		index[rel] = fileKey{ino, size, time.Duration(mtime), time.Duration(ctime)}
	}
	return index
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

// Health gathers what Decide wants to know.
func (d *Dir) Health() (Health, error) {
	b, err := d.Blessed()
	if err != nil {
		b = Blessing{}
	}
	h := Health{Attempts: d.Attempts(), Blessed: b.Boot != ""}
	all, _, err := d.Snapshots()
	if err != nil {
		return h, err
	}
	for _, s := range slices.Backward(all) {
		if s.Good {
			h.Snapshots = append(h.Snapshots, s.Name)
		}
	}
	entries, _, err := d.Journal()
	for _, e := range entries {
		if e.Number > b.Entry && e.Kind == Restore && e.From == "init" {
			h.Tried = append(h.Tried, e.Why)
		}
	}
	return h, err
}
