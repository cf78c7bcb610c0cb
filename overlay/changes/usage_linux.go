package changes

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Place is a directory that programs fill: the upper or the data of a source, or a part of the state that is out of use.
type Place struct {
	Path string `json:"path"` // what one sees there: /etc; "" for what nobody sees
	Role string `json:"role"` // upper, data; snapshots, aside, trash
	Dir  string `json:"directory"`
	Sub  string `json:"below,omitempty"` // only what is at this path below Dir
}

// Usage is what fills a place.
type Usage struct {
	Place
	Bytes      int64      `json:"bytes"` // allocated, hard links counted once
	Files      int64      `json:"files"` // entries of every kind
	FileSystem Space      `json:"filesystem"`
	Top        []Consumer `json:"top"` // the biggest directories and files, biggest first
	Errors     []string   `json:"errors,omitempty"`
}

// Space is the file system that a place lies on.
type Space struct {
	Size  int64 `json:"size"`
	Free  int64 `json:"free"` // for ordinary programs
	Files int64 `json:"files-free"`
}

// Consumer is a directory, with all that is below it, or a file.
type Consumer struct {
	Path      string `json:"path"`
	PathBytes string `json:"path-base64,omitempty"`
	Kind      Kind   `json:"kind"`
	Bytes     int64  `json:"bytes"`
	Files     int64  `json:"files"` // below a directory, with itself

	path string
}

// Places are the uppers and the data of a machine at path and below it.
func (m *Machine) Places(p string) []Place {
	var all []Place
	for _, s := range m.Sources {
		if s.Upper == nil {
			continue
		}
		owner, _ := m.owner(p)
		switch {
		case owner != nil && owner.Mount == s.Mount:
			all = append(all, Place{p, s.Upper.Role, s.Upper.Dir, strings.Join(parts(p[len(s.Mount):]), "/")})
		case within(s.Mount, p):
			all = append(all, Place{s.Mount, s.Upper.Role, s.Upper.Dir, ""})
		}
	}
	slices.SortStableFunc(all, func(a, b Place) int { return ComparePaths(a.Path, b.Path) })
	return all
}

// maxErrors is how many paths that could not be read are named.
const maxErrors = 10

// Use measures a place and keeps the n biggest of what is in it. Its memory does not grow with the number of files, but with the
// depth of the tree, n, and the hard links of which not all names were met yet. A place that is not there is empty.
func Use(ctx context.Context, p Place, n int) (Usage, error) {
	u := Usage{Place: p, Top: []Consumer{}}
	d, err := openRoot(p.Dir, 0)
	if errors.Is(err, unix.ENOTDIR) {
		return useFile(p)
	}
	if err != nil {
		if missing(err) {
			return u, nil
		}
		return u, err
	}
	defer unix.Close(d.fd)
	if u.FileSystem, err = spaceOf(d.fd); err != nil {
		return u, err
	}
	m := &meter{ctx: ctx, usage: &u, keep: n, links: map[inode]uint64{}}
	total, err := m.place(d, p)
	if err != nil {
		return u, err
	}
	u.Bytes, u.Files = total.Bytes, total.Files
	for len(m.top) > 0 {
		c := heap.Pop(&m.top).(Consumer)
		c.Path, c.PathBytes = exact(c.path)
		u.Top = append(u.Top, c)
	}
	slices.Reverse(u.Top)
	return u, nil
}

// useFile measures the one file that a rule keeps.
func useFile(p Place) (Usage, error) {
	u := Usage{Place: p, Top: []Consumer{}, Files: 1}
	var st unix.Stat_t
	if err := unix.Lstat(p.Dir, &st); err != nil {
		return u, &os.PathError{Op: "stat", Path: p.Dir, Err: err}
	}
	u.Bytes = st.Blocks * 512
	d, err := openRoot(path.Dir(p.Dir), 0)
	if err != nil {
		return u, err
	}
	defer unix.Close(d.fd)
	u.FileSystem, err = spaceOf(d.fd)
	return u, err
}

func spaceOf(fd int) (Space, error) {
	var s unix.Statfs_t
	if err := unix.Fstatfs(fd, &s); err != nil {
		return Space{}, fmt.Errorf("statfs: %w", err)
	}
	block := s.Bsize
	if s.Frsize > 0 {
		block = s.Frsize
	}
	return Space{int64(s.Blocks) * block, int64(s.Bavail) * block, int64(s.Ffree)}, nil
}

// meter adds up one place.
type meter struct {
	ctx   context.Context
	usage *Usage
	keep  int
	top   consumers
	links map[inode]uint64 // names of a file that are still to come
}

// place adds up a place, or what is below it, to which no link leads.
func (m *meter) place(d dir, p Place) (Consumer, error) {
	if p.Sub == "" {
		self, err := d.self()
		if err != nil {
			return Consumer{}, err
		}
		return m.directory(d, p.Path, self.st.Blocks*512, 0)
	}
	around := d
	if dir := path.Dir(p.Sub); dir != "." {
		var err error
		if around, err = d.open(dir); err != nil {
			if missing(err) {
				err = nil
			}
			return Consumer{}, err
		}
		defer unix.Close(around.fd)
	}
	return m.entry(around, path.Base(p.Sub), p.Path, -1)
}

// directory adds up what is in d, which takes own bytes itself.
func (m *meter) directory(d dir, at string, own int64, depth int) (Consumer, error) {
	total := Consumer{path: at, Kind: Directory, Bytes: own, Files: 1}
	if err := m.ctx.Err(); err != nil {
		return total, err
	}
	names, err := d.names()
	if err != nil {
		m.failed(at, err)
	}
	slices.Sort(names)
	for _, name := range names {
		part, err := m.entry(d, name, strings.TrimSuffix(at, "/")+"/"+name, depth)
		if err != nil {
			return total, err
		}
		total.Bytes += part.Bytes
		total.Files += part.Files
	}
	if depth > 0 {
		m.offer(total)
	}
	return total, nil
}

func (m *meter) entry(d dir, name, at string, depth int) (Consumer, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if !missing(err) {
			m.failed(at, err)
		}
		return Consumer{}, nil
	}
	c := Consumer{path: at, Kind: kindOf(st.Mode), Bytes: st.Blocks * 512, Files: 1}
	if c.Kind == Directory {
		sub, err := d.open(name)
		if err != nil || depth == maxDepth {
			if err == nil {
				unix.Close(sub.fd)
				err = fmt.Errorf("more than %d directories deep", maxDepth)
			}
			if !missing(err) {
				m.failed(at, err)
			}
			return c, nil
		}
		defer unix.Close(sub.fd)
		return m.directory(sub, at, c.Bytes, depth+1)
	}
	if st.Nlink > 1 {
		id := inode{uint64(st.Dev), st.Ino}
		left, met := m.links[id]
		switch {
		case !met:
			m.links[id] = uint64(st.Nlink) - 1
		case left == 1:
			delete(m.links, id)
		default:
			m.links[id] = left - 1
		}
		if met {
			c.Bytes = 0
		}
	}
	m.offer(c)
	return c, nil
}

func (m *meter) failed(at string, err error) {
	if len(m.usage.Errors) < maxErrors {
		m.usage.Errors = append(m.usage.Errors, fmt.Sprintf("%s: %v", Plain(at), err))
	}
}

// offer keeps c as long as it is one of the biggest.
func (m *meter) offer(c Consumer) {
	if m.keep <= 0 || c.Bytes == 0 {
		return
	}
	if len(m.top) == m.keep {
		if !less(m.top[0], c) {
			return
		}
		heap.Pop(&m.top)
	}
	heap.Push(&m.top, c)
}

// consumers is a heap with the smallest on top.
type consumers []Consumer

func less(a, b Consumer) bool {
	if a.Bytes != b.Bytes {
		return a.Bytes < b.Bytes
	}
	return ComparePaths(a.path, b.path) > 0
}

func (c consumers) Len() int           { return len(c) }
func (c consumers) Less(i, j int) bool { return less(c[i], c[j]) }
func (c consumers) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *consumers) Push(x any)        { *c = append(*c, x.(Consumer)) }
func (c *consumers) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}
