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

func (f Flags) names() []string {
	var names []string
	for _, known := range flagNames {
		if f&known.flag != 0 {
			names = append(names, known.name)
		}
	}
	return names
}

// Mount mounts a file system.
type Mount struct {
	Type   string
	Source string
	Target string
	Flags  Flags
	Data   string // options of the file system; at most one page less one byte
	Dir    string // working directory in which relative paths of Data are looked up; "" for the current one
	Root   string // Target lies in this tree, which may be shaped by others: no link in it is followed; "" for any target
}

func (m Mount) String() string {
	opts := m.Flags.names()
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

// Bind makes a directory, or a file, visible at another place, without what is mounted below it.
type Bind struct {
	Source, Target string
	Root           string // as in Mount
}

func (b Bind) String() string { return "mount --bind " + quote(b.Source) + " " + quote(b.Target) }

// Undo unmounts the target.
func (b Bind) Undo() Op { return Unmount{Target: b.Target} }

// Restrict gives a mount flags of its own, whatever its file system allows elsewhere: mount(2), MS_REMOUNT with MS_BIND.
type Restrict struct {
	Target string
	Flags  Flags
	Root   string // as in Mount
}

func (r Restrict) String() string {
	return "mount -o remount,bind," + strings.Join(r.Flags.names(), ",") + " " + quote(r.Target)
}

// Undo is nil: the mount is undone by whoever made it.
func (Restrict) Undo() Op { return nil }

// Writable makes a file system writable that was mounted read-only.
type Writable struct{ Target string }

func (w Writable) String() string { return "mount -o remount,rw " + quote(w.Target) }

// Undo makes it read-only again.
func (w Writable) Undo() Op { return Unwritable(w) }

// Unwritable makes a file system read-only, which writes what is still in memory.
type Unwritable struct{ Target string }

func (w Unwritable) String() string { return "mount -o remount,ro " + quote(w.Target) }

// Undo is nil.
func (Unwritable) Undo() Op { return nil }

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

// Mkdir makes a directory and its parents; one that exists already is left as it is but for its mode.
type Mkdir struct {
	Path string
	Mode fs.FileMode
}

func (m Mkdir) String() string {
	return fmt.Sprintf("mkdir -p -m %04o %s", m.Mode.Perm(), quote(m.Path))
}

// Undo is nil: an empty directory in the initramfs or in /run harms nobody.
func (Mkdir) Undo() Op { return nil }

// Place makes what can be mounted on, where there is nothing yet: a directory with its parents, or an empty file. What is there
// already stays as it is. Root is as in Mount.
type Place struct {
	Path string
	Root string
	File bool
}

func (p Place) String() string {
	if p.File {
		return "test -e " + quote(p.Path) + " || touch " + quote(p.Path)
	}
	return "mkdir -p " + quote(p.Path)
}

// Undo is nil, as for Mkdir.
func (Place) Undo() Op { return nil }

// Like gives a path the owner and the mode of another.
type Like struct{ Path, Of string }

func (l Like) String() string {
	return fmt.Sprintf("chown --reference=%s %s && chmod --reference=%[1]s %[2]s", quote(l.Of), quote(l.Path))
}

// Undo is nil.
func (Like) Undo() Op { return nil }

// Own gives a path an owner and a mode; a negative number leaves what it stands for as it is. Root is as in Mount.
type Own struct {
	Path     string
	Root     string
	UID, GID int
	Mode     int
}

func (o Own) String() string {
	var cmds []string
	if o.UID >= 0 {
		cmds = append(cmds, fmt.Sprintf("chown %d:%d %s", o.UID, o.GID, quote(o.Path)))
	}
	if o.Mode >= 0 {
		cmds = append(cmds, fmt.Sprintf("chmod %04o %s", o.Mode, quote(o.Path)))
	}
	return strings.Join(cmds, " && ")
}

// Undo is nil.
func (Own) Undo() Op { return nil }

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
