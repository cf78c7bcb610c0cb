package build

import (
	"bytes"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// Names of images that are not layers of veneer.toml.
const (
	baseName  = "base"
	toolsName = "tools"
)

// recordUnit shows what the init decided in the journal of the running system. It is ordered behind the target that wants it,
// so that no boot waits for it; without DefaultDependencies=no the target would be ordered behind it (systemd.target(5)). Its job
// is done once the program runs (Type=exec), and the program gets the time that nobody else wants, for the first login does.
const recordUnit = `[Unit]
Description=Report what was booted, and whether it was verified
Documentation=man:veneer(8)
DefaultDependencies=no
After=multi-user.target
ConditionPathExists=/run/veneer/state.json
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=exec
CPUSchedulingPolicy=idle
IOSchedulingClass=idle
ExecStart=/usr/bin/veneer status
`

// toolsTree is the layer that brings the command and its unit to the running machine: root's files, all of 1970, so that it
// changes only when they do.
func toolsTree(command []byte) *Tree {
	t := &Tree{Source: "the tools layer", content: memory{}}
	add := func(path string, mode uint32, data []byte, target string) {
		t.Entries = append(t.Entries, &Entry{Path: path, Mode: mode, Size: int64(len(data)), Mtime: time.Unix(0, 0), data: data, Target: target})
	}
	t.Root = Entry{Path: ".", Mode: unix.S_IFDIR | 0o755, Mtime: time.Unix(0, 0)}
	const units = "usr/lib/systemd/system"
	for _, dir := range []string{"usr", "usr/bin", "usr/lib", "usr/lib/systemd", units, units + "/multi-user.target.wants"} {
		add(dir, unix.S_IFDIR|0o755, nil, "")
	}
	add("usr/bin/veneer", unix.S_IFREG|0o755, command, "")
	add(units+"/veneer-record.service", unix.S_IFREG|0o644, []byte(recordUnit), "")
	add(units+"/multi-user.target.wants/veneer-record.service", unix.S_IFLNK|0o777, nil, "../veneer-record.service")
	t.finish()
	return t
}

// memory is the content of a tree that lies in its entries.
type memory struct{}

func (memory) open(e *Entry) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(e.data)), nil
}
func (memory) Close() error { return nil }
