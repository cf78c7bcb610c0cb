package build

import (
	"bytes"
	"io"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Names of images that are not layers of veneer.toml.
const (
	baseName  = "base"
	toolsName = "tools"
)

// unitsDir is where the vendor's units lie.
const unitsDir = "usr/lib/systemd/system"

// toolsTree is the layer that brings the command and its units to the running machine: root's files, all of 1970, so that it
// changes only when they do.
func toolsTree(command []byte) *Tree {
	t := &Tree{Source: "the tools layer", content: memory{}, Root: Entry{Path: ".", Mode: unix.S_IFDIR | 0o755, Mtime: time.Unix(0, 0)}}
	t.put("usr/bin/veneer", unix.S_IFREG|0o755, command)
	for _, u := range onBoardUnits {
		t.put(path.Join(unitsDir, u.name), unix.S_IFREG|0o644, []byte(u.text))
		if u.wantedBy != "" {
			t.put(path.Join(unitsDir, u.wantedBy+".wants", u.name), unix.S_IFLNK|0o777, []byte("../"+u.name))
		}
	}
	return t
}

// put adds a file, or a link to what data says, to a tree that lies in memory, with the directories that lead to it.
func (t *Tree) put(name string, mode uint32, data []byte) {
	for dir := path.Dir(name); dir != "." && t.lookup(dir) == nil; dir = path.Dir(dir) {
		t.Entries = append(t.Entries, &Entry{Path: dir, Mode: unix.S_IFDIR | 0o755, Mtime: time.Unix(0, 0)})
		slices.SortFunc(t.Entries, func(a, b *Entry) int { return comparePaths(a.Path, b.Path) })
	}
	e := &Entry{Path: name, Mode: mode, Mtime: time.Unix(0, 0)}
	if e.kind() == unix.S_IFLNK {
		e.Target = string(data)
	} else {
		e.Size, e.data = int64(len(data)), data
	}
	t.Entries = append(t.Entries, e)
	t.Bytes = 0
	t.finish()
}

// memory is the content of a tree that lies in its entries.
type memory struct{}

func (memory) open(e *Entry) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(e.data)), nil
}
func (memory) Close() error { return nil }
