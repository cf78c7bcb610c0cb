package state

// The copy of one tree into a snapshot.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
)

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
	case st.Nlink > 1 && c.twin(dst, name, &st): // before all else: its names stay one file
		return nil
	case kind == unix.S_IFREG && !c.reflink && c.unchanged(rel, &st) && linkBeneath(c.prev, rel, dst, name):
		c.snapshot.Shared += int64(st.Size)
		c.named(rel, &st)
	default:
		if err := c.copier.Node(src, name, dst, name); err != nil {
			return err
		}
		c.named(rel, &st)
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

// named remembers where the first name of a file lies in this snapshot.
func (c *snapshotCopy) named(rel string, st *unix.Statx_t) {
	if st.Nlink > 1 && len(c.links) < maxLinks {
		c.links[inode(st)] = rel
	}
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
