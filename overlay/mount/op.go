package mount

import (
	"fmt"
	"io/fs"
	"strings"
)

// Op is one operation on the mount tree or on the directories that it needs.
type Op interface {
	// String is the operation as a shell command.
	String() string
	// Undo returns the operation that takes this one back, or nil where there is nothing to take back.
	Undo() Op
}

// Applier carries out operations: the kernel, or a recorder.
type Applier interface {
	Apply(Op) error
}

// Flags are the mount flags that we use, with the values of mount(2).
type Flags uintptr

// Mount flags, see mount(2).
const (
	ReadOnly Flags = 1 << 0
	NoSuid   Flags = 1 << 1
	NoDev    Flags = 1 << 2
	NoExec   Flags = 1 << 3
	NoAtime  Flags = 1 << 10
	Strict   Flags = 1 << 24 // MS_STRICTATIME
)

var flagNames = []struct {
	flag Flags
	name string
}{{ReadOnly, "ro"}, {NoSuid, "nosuid"}, {NoDev, "nodev"}, {NoExec, "noexec"}, {NoAtime, "noatime"}, {Strict, "strictatime"}}

// Mount mounts a file system.
type Mount struct {
	Type   string
	Source string
	Target string
	Flags  Flags
	Data   string // options of the file system; at most one page less one byte
	Dir    string // working directory in which relative paths of Data are looked up; "" for the current one
}

func (m Mount) String() string {
	opts := make([]string, 0, len(flagNames)+1)
	for _, f := range flagNames {
		if m.Flags&f.flag != 0 {
			opts = append(opts, f.name)
		}
	}
	if m.Data != "" {
		opts = append(opts, m.Data)
	}
	cmd := "mount -t " + quote(m.Type)
	if len(opts) > 0 {
		cmd += " -o " + quote(strings.Join(opts, ","))
	}
	cmd += " " + quote(m.Source) + " " + quote(m.Target)
	if m.Dir != "" {
		cmd = "cd " + quote(m.Dir) + " && " + cmd
	}
	return cmd
}

// Undo unmounts the target.
func (m Mount) Undo() Op { return Unmount{Target: m.Target} }

// Move moves a mount, with everything below it, to another place.
type Move struct{ Source, Target string }

func (m Move) String() string { return "mount --move " + quote(m.Source) + " " + quote(m.Target) }

// Undo moves it back.
func (m Move) Undo() Op { return Move{m.Target, m.Source} }

// Bind makes a directory visible at another place, without what is mounted below it.
type Bind struct{ Source, Target string }

func (b Bind) String() string { return "mount --bind " + quote(b.Source) + " " + quote(b.Target) }

// Undo unmounts the target.
func (b Bind) Undo() Op { return Unmount{Target: b.Target} }

// Private cuts the propagation of mounts below the target, recursively.
type Private struct{ Target string }

func (p Private) String() string { return "mount --make-rprivate " + quote(p.Target) }

// Undo is nil: what propagation was before is not known.
func (Private) Undo() Op { return nil }

// Unmount unmounts a target.
type Unmount struct{ Target string }

func (u Unmount) String() string { return "umount " + quote(u.Target) }

// Undo is nil.
func (Unmount) Undo() Op { return nil }

// Mkdir makes a directory and its parents; one that exists already is left as it is.
type Mkdir struct {
	Path string
	Mode fs.FileMode
}

func (m Mkdir) String() string {
	return fmt.Sprintf("mkdir -p -m %04o %s", m.Mode.Perm(), quote(m.Path))
}

// Undo is nil: an empty directory in the initramfs or in /run harms nobody.
func (Mkdir) Undo() Op { return nil }

// Symlink makes a symbolic link; one that exists with the same content is left as it is.
type Symlink struct{ Content, Path string }

func (s Symlink) String() string { return "ln -s " + quote(s.Content) + " " + quote(s.Path) }

// Undo is nil, as for Mkdir.
func (Symlink) Undo() Op { return nil }

// quote protects a word for the shell, only where it needs it.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-=,:+%@") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
