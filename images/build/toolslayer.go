package build

import (
	"bytes"
	"io"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"veneer/overlay/identity"
)

// Names of images that are not layers of veneer.toml.
const (
	baseName  = "base"
	toolsName = "tools"
)

// units are those of the tools layer, by name, each with the unit that wants it, if any. They are ordered behind the target that
// wants them, so that no boot waits for them; without DefaultDependencies=no the target would be ordered behind them
// (systemd.target(5)).
var units = []struct{ name, wantedBy, text string }{
	// What the init decided, in the journal of the running system.
	{"veneer-record.service", "multi-user.target", `[Unit]
Description=Report what was booted, and whether it was verified
Documentation=man:veneer(8)
DefaultDependencies=no
After=multi-user.target
ConditionPathExists=/run/veneer/state.json
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=oneshot
ExecStart=/usr/bin/veneer status
`},
	// Host keys, before whoever reads them; not before a socket, since the whole boot waits for those and a key takes its time. The
	// condition on the key keeps this program from being started for nothing.
	{"veneer-identity-keys.service", "multi-user.target", `[Unit]
Description=Make the host keys of this machine
Documentation=man:veneer(8)
DefaultDependencies=no
After=systemd-remount-fs.service systemd-random-seed.service local-fs.target
Before=ssh.service sshd.service
ConditionPathExists=/run/veneer/state.json
ConditionFileIsExecutable=/usr/bin/ssh-keygen
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=oneshot
ExecStart=/usr/bin/veneer identity keys
`},
	// Where a socket starts an sshd for each connection, that waits. Drop-ins of units that are not there mean nothing.
	{"ssh@.service.d/veneer.conf", "", afterKeys},
	{"sshd@.service.d/veneer.conf", "", afterKeys},
	// Once the boot is complete, and when it ends. systemd has a first boot until first-boot-complete.target.
	{identity.SaveUnit, "multi-user.target", `[Unit]
Description=Keep the identity of this machine
Documentation=man:veneer(8)
DefaultDependencies=no
After=first-boot-complete.target multi-user.target
ConditionPathIsDirectory=/run/veneer/state/identity
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/veneer identity save --booted
ExecStop=/usr/bin/veneer identity save
`},
	// When something was changed, and each hour for the clock and the seed.
	{"veneer-identity-save.service", "", `[Unit]
Description=Keep what has changed of the identity of this machine
Documentation=man:veneer(8)
ConditionPathIsDirectory=/run/veneer/state/identity

[Service]
Type=oneshot
ExecStart=/usr/bin/veneer identity save
`},
	{"veneer-identity-save.path", "multi-user.target", `[Unit]
Description=Watch the identity of this machine
Documentation=man:veneer(8)
ConditionPathIsDirectory=/run/veneer/state/identity

[Path]
PathChanged=/etc/hostname
PathChanged=/etc/machine-id
PathChanged=/etc/ssh
`},
	{"veneer-identity-save.timer", "timers.target", `[Unit]
Description=Stamp the clock and renew the random seed of this machine
Documentation=man:veneer(8)
ConditionPathIsDirectory=/run/veneer/state/identity

[Timer]
OnBootSec=1h
OnUnitActiveSec=1h
`},
}

const afterKeys = `[Unit]
After=veneer-identity-keys.service
`

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
	for _, u := range units {
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
