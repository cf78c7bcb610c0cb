package build

import (
	"bytes"
	"io"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// Names of images that are not layers of veneer.toml.
const (
	baseName  = "base"
	toolsName = "tools"
)

// toolsTree is the layer that brings the command and its units to the running machine: root's files, all of 1970, so that it
// changes only when they do.
func toolsTree(command []byte) *Tree {
	t := &Tree{Source: "the tools layer", content: memory{}}
	add := func(path string, mode uint32, data []byte, target string) {
		t.Entries = append(t.Entries, &Entry{Path: path, Mode: mode, Size: int64(len(data)), Mtime: time.Unix(0, 0), data: data, Target: target})
	}
	t.Root = Entry{Path: ".", Mode: unix.S_IFDIR | 0o755, Mtime: time.Unix(0, 0)}
	const system = "usr/lib/systemd/system"
	for _, dir := range []string{"usr", "usr/bin", "usr/lib", "usr/lib/systemd", system, system + "/multi-user.target.wants", system + "/timers.target.wants"} {
		add(dir, unix.S_IFDIR|0o755, nil, "")
	}
	add("usr/bin/veneer", unix.S_IFREG|0o755, command, "")
	for _, u := range onBoardUnits {
		if dir := path.Dir(u.name); dir != "." {
			add(system+"/"+dir, unix.S_IFDIR|0o755, nil, "")
		}
		add(system+"/"+u.name, unix.S_IFREG|0o644, []byte(u.text), "")
		if u.wantedBy != "" {
			add(system+"/"+u.wantedBy+".wants/"+u.name, unix.S_IFLNK|0o777, nil, "../"+u.name)
		}
	}
	t.finish()
	return t
}

// memory is the content of a tree that lies in its entries.
type memory struct{}

func (memory) open(e *Entry) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(e.data)), nil
}
func (memory) Close() error { return nil }
