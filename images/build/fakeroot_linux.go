package build

import (
	"bytes"
	"debug/elf"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// fakery is what only root may give to a file. An ordinary user notes it down instead, and fakeroot shows it to mkfs.erofs, so
// that the image is the one that root would make.
type fakery struct {
	tools  map[string]string
	owners bytes.Buffer // a database of fakeroot: owners, modes and kinds of files by inode
	xattrs bytes.Buffer // a dump of getfattr: extended attributes, which that database does not hold
}

// fakeryTools are the programs that it takes. The second is needed for extended attributes only.
var fakeryTools = []string{"fakeroot", "setfattr"}

// fakeryMost is what fakeroot takes of an extended attribute, its name included, and of the names of all of a file's.
const fakeryMost = 1024

// newFakery looks for what stands in the way of t before anything is unpacked.
func newFakery(t *Tree, program string) (*fakery, error) {
	f := &fakery{tools: map[string]string{}}
	for _, name := range fakeryTools {
		path, err := findTool(name)
		if err != nil {
			return nil, fmt.Errorf("EROFS of %s without being root: %w", t.Source, err)
		}
		f.tools[name] = path
	}
	for _, path := range []string{f.tools["setfattr"], program} {
		if !preloads(path) {
			return nil, fmt.Errorf("EROFS of %s without being root: %s is not linked with the C library, so that fakeroot has no hold on it: use the one of Debian, or run as root", t.Source, path)
		}
	}
	return f, t.checkFakery()
}

// preloads reports whether a library can be put before a program's own ones.
func preloads(program string) bool {
	f, err := elf.Open(program)
	if err != nil {
		return true // a script: what it runs cannot be told
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	return err == nil && slices.ContainsFunc(libraries, func(l string) bool { return strings.HasPrefix(l, "libc.") })
}

// checkFakery names the files that fakeroot could not show as they are.
func (t *Tree) checkFakery() error {
	var f findings
	const remedy = `run as root, or use filesystem.type = "squashfs"`
	t.all(func(e *Entry) {
		names := 0
		for _, x := range e.Xattrs {
			if !erofsLimits.keeps(e, x.Name) {
				continue
			}
			if names += len(x.Name) + 1; len(x.Name)+1+len(x.Value) > fakeryMost {
				f.refuse(e.Path, fmt.Sprintf("%s has %d bytes, and fakeroot takes %d of it", x.Name, len(x.Value), fakeryMost-len(x.Name)-1), remedy)
			}
		}
		if names > fakeryMost {
			f.refuse(e.Path, fmt.Sprintf("the names of its extended attributes have %d bytes, and fakeroot takes %d", names, fakeryMost), remedy)
		}
	})
	_, err := f.judge(t.Source, nil)
	return err
}

// note takes down a file that was made at target.
func (f *fakery) note(e *Entry, target string) error {
	var st unix.Stat_t
	if err := unix.Lstat(target, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: target, Err: err}
	}
	device := uint64(0)
	if kind := e.kind(); kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		device = unix.Mkdev(e.Major, e.Minor)
	}
	fmt.Fprintf(&f.owners, "dev=%x,ino=%d,mode=%o,uid=%d,gid=%d,nlink=%d,rdev=%d\n", st.Dev, st.Ino, e.Mode, e.UID, e.GID, st.Nlink, device)
	head := fmt.Sprintf("# file: %s\n", octal(target))
	for _, x := range e.Xattrs {
		if erofsLimits.keeps(e, x.Name) {
			fmt.Fprintf(&f.xattrs, "%s%s=0s%s\n", head, octal(x.Name), base64.StdEncoding.EncodeToString(x.Value))
			head = ""
		}
	}
	if head == "" {
		f.xattrs.WriteByte('\n')
	}
	return nil
}

// octal spells all but the plainest bytes in the way that setfattr reads them.
func octal(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("/._-", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, `\%03o`, c)
	}
	return b.String()
}

// Names of the two files of a fakery. The first has to be plain, because fakeroot hands it to a shell.
const (
	fakeOwners = "fakeroot.db"
	fakeXattrs = "xattrs"
)

// wrap makes a run of a program one in which it sees the files as they were noted down. The notes go to the directory dir.
func (f *fakery) wrap(c command, dir string) (command, error) {
	argv := []string{f.tools["fakeroot"], "-i", fakeOwners, "--"}
	if err := os.WriteFile(filepath.Join(dir, fakeOwners), f.owners.Bytes(), 0o600); err != nil {
		return c, err
	}
	if f.xattrs.Len() > 0 {
		if err := os.WriteFile(filepath.Join(dir, fakeXattrs), f.xattrs.Bytes(), 0o600); err != nil {
			return c, err
		}
		argv = append(argv, "/bin/sh", "-e", "-c", `"$1" -h --restore=`+fakeXattrs+`; shift; exec "$@"`, "sh", f.tools["setfattr"])
	}
	c.argv, c.dir = append(argv, c.argv...), dir
	c.stop = unix.SIGINT // fakeroot ends the daemon that it has started when it is interrupted, and not when it is killed
	c.sweep = func() { endDaemons(dir) }
	return c, nil
}

// endDaemons ends what still runs in dir: fakeroot that is interrupted between the start of its daemon and the trap for it leaves
// that behind, in a session of its own.
func endDaemons(dir string) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir) // as /proc shows it
	}
	if err != nil {
		return
	}
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		if at, err := os.Readlink(link); err == nil && at == dir {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil && pid != os.Getpid() {
				_ = unix.Kill(pid, unix.SIGTERM)
			}
		}
	}
}
