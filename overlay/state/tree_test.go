package state

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// now is the clock of the tests.
var now = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func needsRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for devices, trusted attributes and flags: run the tests as root")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, name string) *Dir {
	t.Helper()
	d, err := Open(name)
	must(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

// put makes an entry of a tree: "path content", "path/" for a directory, "path -> target", "path whiteout", "path opaque",
// "path +i".
func put(t testing.TB, root string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		name, what, _ := strings.Cut(line, " ")
		p := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		switch {
		case strings.HasSuffix(name, "/") && what == "":
			must(t, os.MkdirAll(p, 0o755))
		case strings.HasPrefix(what, "-> "):
			must(t, os.Symlink(what[3:], p))
		case what == "whiteout":
			must(t, unix.Mknod(p, unix.S_IFCHR, 0))
		case what == "fifo":
			must(t, unix.Mkfifo(p, 0o600))
		case what == "opaque":
			must(t, os.MkdirAll(p, 0o755))
			must(t, unix.Lsetxattr(p, "trusted.overlay.opaque", []byte("y"), 0))
		case what == "+i" || what == "+a":
			if _, err := os.Lstat(p); err != nil {
				must(t, os.WriteFile(p, []byte("fixed"), 0o644))
			}
			setFlags(t, p, map[string]int{"+i": 0x10, "+a": 0x20}[what])
		default:
			must(t, os.WriteFile(p, []byte(what), 0o640))
		}
	}
}

func setFlags(t testing.TB, p string, flags int) {
	t.Helper()
	f, err := os.OpenFile(p, os.O_RDONLY|unix.O_NONBLOCK, 0)
	must(t, err)
	defer f.Close()
	have, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, have&^fixedFlags|flags)
	}
	must(t, err)
	if flags != 0 {
		t.Cleanup(func() { unfix(filepath.Dir(p)) })
	}
}

// unfix clears all flags below root, for the end of a test.
func unfix(root string) {
	filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err == nil && (e.Type().IsRegular() || e.IsDir()) {
			if f, err := os.Open(p); err == nil {
				if have, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS); err == nil && have&fixedFlags != 0 {
					unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, have&^fixedFlags)
				}
				f.Close()
			}
		}
		return nil
	})
}

// list describes a tree, but for what skip names.
func list(t testing.TB, root string, skip ...string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		for _, s := range skip {
			if rel == s {
				if e.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		what := ""
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			if what = fmt.Sprintf("%d bytes", st.Size); st.Size < 1<<16 {
				text, err := os.ReadFile(p)
				if err != nil {
					return err
				}
				what = fmt.Sprintf("%q", text)
			}
		case unix.S_IFLNK:
			what, _ = os.Readlink(p)
		case unix.S_IFCHR:
			what = fmt.Sprint(st.Rdev)
		}
		flags := 0
		if e.Type().IsRegular() || e.IsDir() {
			f, err := os.Open(p)
			if err != nil {
				return err
			}
			flags, _ = unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
			f.Close()
		}
		buf := make([]byte, 16)
		n, _ := unix.Lgetxattr(p, "trusted.overlay.opaque", buf)
		lines = append(lines, fmt.Sprintf("%q %o %x %s %s", rel, st.Mode, flags&fixedFlags, buf[:max(n, 0)], what))
		return nil
	})
	must(t, err)
	sort.Strings(lines)
	return lines
}

// memory is a scratch directory on a tmpfs, where an fsync costs nothing; tmpfs has all that these tests need since Linux 6.6.
func memory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "veneer-state")
	if err != nil {
		t.Logf("slow: %v", err)
		return t.TempDir()
	}
	t.Cleanup(func() {
		unfix(dir)
		os.RemoveAll(dir)
	})
	probe := filepath.Join(dir, "probe")
	must(t, os.WriteFile(probe, nil, 0o600))
	f, err := os.Open(probe)
	must(t, err)
	defer f.Close()
	if _, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS); err != nil {
		t.Logf("slow, since tmpfs has no flags here: %v", err)
		return t.TempDir()
	}
	must(t, os.Remove(probe))
	return dir
}

// populate makes a state as a machine leaves it.
func populate(t testing.TB, root string) *Dir {
	t.Helper()
	d := open(t, root)
	must(t, d.Adopt(Owner{Product: "kiosk", Machine: "m1"}))
	put(t, root,
		"etc/1/work/", "etc/1/fs/hostname one", "etc/1/fs/machine-id 0123", "etc/1/fs/.hidden/.deep/x 1",
		"etc/1/fs/ssh/sshd_config Port", "etc/1/fs/ssh/ssh_host_rsa_key secret", "etc/1/fs/ssh/ssh_host_rsa_key.pub public",
		"etc/1/fs/NetworkManager/system-connections/home.nmconnection wifi", "etc/1/fs/NetworkManager/other x",
		"etc/1/fs/gone whiteout", "etc/1/fs/new opaque", "etc/1/fs/new/inside y", "etc/1/fs/link -> /etc/passwd",
		"etc/1/fs/odd\nname\xff\" -> dangling", "etc/1/fs/[a]*? glob", "etc/1/fs/pipe fifo",
		"etc/2/fs/other-deployment x", "etc/2/work/",
		"merge/opt/fs/app x", "merge/opt/work/",
		`data/var/lib/app/db rows`, "data/var/lib/app/.cache/c c", "data/var/log/syslog lines", "data/var/fs not-an-upper",
		`data/var-lib-foo\x2dbar/z z`, "data/home/user/.profile p", "identity/machine-id 0123", "identity/ssh/key k")
	must(t, d.WriteStamp("etc/1", Stamp{Product: "kiosk", Base: "b1", Serial: "1", Lowers: []string{"t1", "b1"}}))
	must(t, d.WriteStamp("merge/opt", Stamp{Product: "kiosk", Base: "b1", Serial: "1", Lowers: []string{"t1", "b1"}}))
	return d
}
