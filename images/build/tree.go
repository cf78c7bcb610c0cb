package build

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Entry is a name in a tree and the file that it leads to.
type Entry struct {
	Path         string // slash-separated, relative; "." is the root
	Mode         uint32 // type and permissions as in stat(2)
	UID, GID     uint32
	Size         int64 // of a regular file
	Mtime        time.Time
	Major, Minor uint32  // of a device
	Target       string  // of a symbolic link
	Xattrs       []Xattr // by name
	inode        int     // the same for all names of a file; 0 for one that has no other name
	offset       int64   // of its header in a tar archive
	member       string  // its path there: that of the first name, for a hard link
	data         []byte  // of a file in memory
}

// Xattr is an extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

func (e *Entry) kind() uint32 { return e.Mode & unix.S_IFMT }
func (e *Entry) isDir() bool  { return e.kind() == unix.S_IFDIR }

// Tree is a file system as it was found in a source: every name with its metadata, and a way to the content.
type Tree struct {
	Source  string
	Root    Entry
	Entries []*Entry // without the root; by path, a directory before what is in it
	Bytes   int64    // of content, each file once
	found   findings
	content content
}

// content opens the regular files of a tree. What is read must be exactly as long as the Entry says.
type content interface {
	open(e *Entry) (io.ReadCloser, error)
	Close() error
}

// Close releases the source, and removes what was unpacked of it.
func (t *Tree) Close() error { return t.content.Close() }

// lookup finds an entry by its path.
func (t *Tree) lookup(path string) *Entry {
	i, ok := slices.BinarySearchFunc(t.Entries, path, func(e *Entry, p string) int { return comparePaths(e.Path, p) })
	if !ok {
		return nil
	}
	return t.Entries[i]
}

// comparePaths sorts as a walk does that visits each directory in the order of its names: a/b comes before a.c.
func comparePaths(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] == b[i] {
			continue
		}
		switch {
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		}
		return cmp.Compare(a[i], b[i])
	}
	return cmp.Compare(len(a), len(b))
}

// finish sorts the entries and counts the content.
func (t *Tree) finish() {
	slices.SortFunc(t.Entries, func(a, b *Entry) int { return comparePaths(a.Path, b.Path) })
	seen := map[int]bool{}
	for _, e := range t.Entries {
		if e.kind() != unix.S_IFREG || e.inode > 0 && seen[e.inode] {
			continue
		}
		seen[e.inode] = true
		t.Bytes += e.Size
	}
}

// all calls do for the root and each entry.
func (t *Tree) all(do func(*Entry)) {
	do(&t.Root)
	for _, e := range t.Entries {
		do(e)
	}
}

// newest is the latest time in the tree, in whole seconds, and not later than epoch where there is one.
func (t *Tree) newest(epoch *time.Time) time.Time {
	var latest time.Time
	t.all(func(e *Entry) {
		if e.Mtime.After(latest) {
			latest = e.Mtime
		}
	})
	if epoch != nil && latest.After(*epoch) {
		latest = *epoch
	}
	// Squashfs and mke2fs know 32 bits, from 1970 on.
	return time.Unix(min(max(latest.Unix(), 0), maxSeconds), 0)
}

// earlier is a time, or epoch where that is in an earlier second: an epoch is in whole seconds.
func earlier(t, epoch time.Time) time.Time {
	if t.Unix() > epoch.Unix() {
		return epoch
	}
	return t
}

// maxSeconds is the latest time that squashfs can tell, in 2106.
const maxSeconds = 1<<32 - 1

// examine adds what the format cannot keep to the findings of the tree, and what nobody should put into an image unawares.
func (t *Tree) examine(format formatLimits) {
	t.all(func(e *Entry) { t.examineEntry(e, format) })
	if format.noRootTime {
		t.found.add(LossRootTime, ".", "")
	}
}

func (t *Tree) examineEntry(e *Entry, format formatLimits) {
	name := e.Path[strings.LastIndexByte(e.Path, '/')+1:]
	if len(name) > format.longestName {
		t.found.refuse(e.Path, fmt.Sprintf("its name has %d bytes", len(name)), fmt.Sprintf("%s takes names of at most %d bytes: rename it", format.tool, format.longestName))
	}
	switch e.kind() {
	case unix.S_IFSOCK:
		if !format.sockets {
			t.found.add(LossSockets, e.Path, "")
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		if e.Major >= 1<<12 || e.Minor >= 1<<20 {
			t.found.refuse(e.Path, "device number too large", "Linux knows 12 bits of major and 20 bits of minor number")
		}
		if e.kind() == unix.S_IFCHR && e.Major == 0 && e.Minor == 0 {
			t.found.add(LossOverlay, e.Path, "a whiteout (character device 0:0)")
		}
	}
	if strings.HasPrefix(name, ".wh.") {
		t.found.add(LossOverlay, e.Path, "a whiteout of a container layer")
	}
	seconds := e.Mtime.Unix()
	if !format.wideTimes && (seconds < 0 || seconds > maxSeconds) {
		t.found.add(LossTimes, e.Path, e.Mtime.UTC().Format(time.RFC3339)+" lies outside 1970 to 2106")
	}
	if !format.nanoseconds && e.Mtime.Nanosecond() != 0 {
		t.found.add(LossSubsecond, e.Path, "")
	}
	for _, x := range e.Xattrs {
		t.examineXattr(e, x.Name, format)
	}
}

func (t *Tree) examineXattr(e *Entry, name string, format formatLimits) {
	switch {
	case strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay."):
		t.found.add(LossOverlay, e.Path, name)
	case strings.HasPrefix(name, "system.posix_acl_"):
		if !format.acls {
			t.found.add(LossACL, e.Path, name)
		}
	case !format.keeps(e, name):
		t.found.add(LossXattrs, e.Path, name)
	}
}

// formatLimits say what a file system, or the tool that makes it, can keep.
type formatLimits struct {
	tool        string
	longestName int // bytes
	acls        bool
	wideTimes   bool // before 1970 and after 2106
	nanoseconds bool
	rootXattrs  bool
	noRootTime  bool
	sockets     bool
}

// keeps reports whether an extended attribute survives.
func (f formatLimits) keeps(e *Entry, name string) bool {
	if e.Path == "." && !f.rootXattrs || strings.ContainsRune(name, '=') {
		return false
	}
	if f.acls && strings.HasPrefix(name, "system.posix_acl_") {
		return true
	}
	for _, prefix := range []string{"user.", "trusted.", "security."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
