package state

import (
	"errors"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// Size is how much there is of something.
type Size struct {
	Bytes int64 // of blocks, each file once
	Files int64
}

// Measure tells how much a step of a plan would move. It follows no link and enters no mount; a tree that changes meanwhile is
// measured more or less.
func (d *Dir) Measure(s Step) (Size, error) {
	m := measuring{seen: map[[2]uint64]bool{}}
	fd, name, err := d.parent(s.From)
	if missing(err) {
		return m.Size, nil
	}
	if err != nil {
		return m.Size, d.wrap("measure", s.From, err)
	}
	defer unix.Close(fd)
	if !s.Children {
		return m.Size, m.entry(fd, name, 0)
	}
	dir, err := openBeneath(fd, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return m.Size, d.wrap("measure", s.From, err)
	}
	defer unix.Close(dir)
	err = eachName(dir, func(n string) error {
		if matches(s.Except, n) {
			return nil
		}
		return m.entry(dir, n, 1)
	})
	return m.Size, err
}

// MeasureKept tells how much there is of what a plan keeps: an entry, the last part of whose name is a pattern.
func (d *Dir) MeasureKept(keep string) (Size, error) {
	m := measuring{seen: map[[2]uint64]bool{}}
	dir, last := path.Split(keep)
	fd, err := d.openDir(path.Clean("./" + dir))
	if missing(err) {
		return m.Size, nil
	}
	if err != nil {
		return m.Size, d.wrap("measure", keep, err)
	}
	defer unix.Close(fd)
	err = eachName(fd, func(n string) error {
		if !matches([]string{last}, n) {
			return nil
		}
		return m.entry(fd, n, 1)
	})
	return m.Size, err
}

type measuring struct {
	Size
	seen map[[2]uint64]bool // files with several names
}

func (m *measuring) entry(dir int, name string, depth int) error {
	var st unix.Statx_t
	err := unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &st)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "measure", Path: quote(name), Err: err}
	}
	isDir := uint32(st.Mode)&unix.S_IFMT == unix.S_IFDIR
	if id := inode(&st); isDir || st.Nlink == 1 || !m.seen[id] {
		m.Bytes += int64(st.Blocks) * 512
		if !isDir && st.Nlink > 1 && len(m.seen) < maxLinks {
			m.seen[id] = true
		}
	}
	m.Files++
	const tooDeep = 200
	if !isDir || depth > tooDeep || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return nil
	}
	fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if missing(err) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "measure", Path: quote(name), Err: err}
	}
	defer unix.Close(fd)
	return eachName(fd, func(n string) error { return m.entry(fd, n, depth+1) })
}
