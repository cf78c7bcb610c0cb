package changes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	files "veneer/overlay/entry"
	"veneer/overlay/mount"
	"veneer/overlay/mount/mounttest"
)

// onExt4 is a lab on a disk; it needs a loop device, which only root has.
func onExt4(t *testing.T) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a loop device needs root: run the tests as root")
	}
	l := &lab{t: t, dir: t.TempDir()}
	img := filepath.Join(t.TempDir(), "img")
	l.must(os.WriteFile(img, nil, 0o600))
	l.must(os.Truncate(img, 32<<20))
	for _, argv := range [][]string{{"mkfs.ext4", "-q", "-F", img}, {"mount", "-o", "loop", img, l.dir}} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", argv, err, out)
		}
	}
	t.Cleanup(func() { _ = unix.Unmount(l.dir, unix.MNT_DETACH) })
	for _, d := range []string{"lower0", "lower1", "upper", "work", "root"} {
		l.must(os.Mkdir(filepath.Join(l.dir, d), 0o755))
	}
	return l
}

// snapshot copies the upper as overlay/state does, and returns a machine that is compared with the copy.
func (l *lab) snapshot() *Machine {
	l.t.Helper()
	dir, err := files.OpenRoot(l.dir)
	l.must(err)
	defer unix.Close(dir)
	l.must((&files.Copier{Marks: true}).Copy(dir, "upper", dir, "old"))
	s := *l.source()
	s.Old = &Layer{Dir: l.dir + "/old"}
	return &Machine{Sources: []Source{s}}
}

var fileSystems = map[string]func(*testing.T) *lab{"tmpfs": newLab, "ext4": onExt4}

// Whatever was done to a tree since a snapshot, a return to it shows what was there then, and a second one has nothing to do.
func TestARestoredTreeIsWhatTheSnapshotSaw(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	for name, make := range fileSystems {
		for _, redirect := range []string{"off", "on"} {
			for seed := range 15 {
				t.Run(fmt.Sprint(name, "/redirect ", redirect, "/", seed), func(t *testing.T) {
					l := make(t)
					r := &roller{seed: uint64(seed)*2654435761 + 7}
					r.fill(l, "lower0", 40)
					r.fill(l, "lower1", 10)
					l.stack("redirect_dir=" + redirect + ",index=off,metacopy=off")
					r.disturb(l, l.root, 30)
					m, before := l.snapshot(), snapshotOf(t, l.root)
					r.disturb(l, l.root, 40)
					disturbed := snapshotOf(t, l.root)
					planned, err := m.Restore(context.Background(), l.root, "/", true)
					l.must(err)
					if diff := cmp.Diff(disturbed, snapshotOf(t, l.root), cmp.AllowUnexported(seen{})); diff != "" {
						t.Errorf("a dry run changed (-before +after):\n%s", diff)
					}
					done, err := m.Restore(context.Background(), l.root, "/", false)
					if err != nil {
						t.Fatalf("Restore() = %v, %v", done, err)
					}
					if diff := cmp.Diff(planned, done); diff != "" {
						t.Errorf("what was planned and done (-planned +done):\n%s", diff)
					}
					if diff := cmp.Diff(before, snapshotOf(t, l.root), cmp.AllowUnexported(seen{})); diff != "" {
						t.Errorf("the tree (-then +restored):\n%s", diff)
					}
					if again, err := m.Restore(context.Background(), l.root, "/", false); err != nil || len(again) > 0 {
						t.Errorf("a second Restore() = %v, %v, want nothing to do", again, err)
					}
				})
			}
		}
	}
}

// entries is a directory with one entry of each kind, as lines with all metadata.
func entries(t *testing.T, l *lab, names ...string) string {
	t.Helper()
	var b strings.Builder
	for _, n := range names {
		st, err := statOf(filepath.Join(l.root, n))
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", n, errors.Unwrap(err))
			continue
		}
		fmt.Fprintf(&b, "%s: %o %d:%d dev %d time %d.%d", n, st.Mode, st.Uid, st.Gid, st.Rdev, st.Mtim.Sec, st.Mtim.Nsec)
		buf := make([]byte, 64)
		if size, err := unix.Lgetxattr(filepath.Join(l.root, n), "trusted.note", buf); err == nil {
			fmt.Fprintf(&b, " note %s", buf[:size])
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			text, err := os.ReadFile(filepath.Join(l.root, n))
			fmt.Fprintf(&b, " %q %v", text, err)
		case unix.S_IFLNK:
			to, err := os.Readlink(filepath.Join(l.root, n))
			fmt.Fprintf(&b, " -> %s %v", to, err)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Each kind of entry comes back with owner, mode, attributes and time; what the upper had nothing of shows what the base has.
func TestEachKindOfEntryIsRestoredWithAllThatItHad(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	if os.Getuid() != 0 {
		t.Skip("devices, owners and trusted attributes need root: run the tests as root")
	}
	for name, make := range fileSystems {
		t.Run(name, func(t *testing.T) {
			l := make(t)
			for _, n := range []string{"d/base", "d/deleted", "d/sub/low", "d/sub/gone"} {
				l.put("lower0/" + n)
			}
			l.stack("redirect_dir=off,index=off,metacopy=off")
			old := time.Unix(1_600_000_000, 123456789)
			d := l.root + "/d/"
			l.must(os.WriteFile(d+"file", []byte("then"), 0o4755))
			l.must(os.Chown(d+"file", 7, 8))
			l.must(os.Chmod(d+"file", 0o640|fs.ModeSetuid))
			l.must(unix.Setxattr(d+"file", "trusted.note", []byte("kept"), 0))
			l.must(os.Symlink("file", d+"link"))
			l.must(unix.Mknod(d+"node", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
			l.must(unix.Mkfifo(d+"fifo", 0o622))
			l.must(os.Remove(d + "deleted"))
			l.must(os.Mkdir(d+"made", 0o710))
			l.must(os.WriteFile(d+"made/x", []byte("x"), 0o600))
			l.must(os.RemoveAll(d + "sub/gone"))
			l.must(os.WriteFile(d+"sticky", []byte("then"), 0o600))
			for _, n := range []string{"made/x", "made", "file", "sub", ""} {
				l.must(os.Chtimes(d+n, old, old))
			}
			all := []string{"d", "d/base", "d/deleted", "d/sub", "d/sub/low", "d/sub/gone", "d/file", "d/link", "d/node", "d/fifo", "d/made", "d/made/x", "d/made/new", "d/newer", "d/sticky"}
			m, then := l.snapshot(), entries(t, l, all...)

			for _, n := range []string{"file", "node", "fifo", "base", "link"} {
				l.must(os.Remove(d + n))
			}
			l.must(os.Symlink("elsewhere", d+"link"))
			l.must(os.Mkdir(d+"file", 0o755)) // another kind
			l.must(os.WriteFile(d+"deleted", []byte("back"), 0o644))
			l.must(os.WriteFile(d+"base", []byte("changed"), 0o600))
			l.must(os.RemoveAll(d + "sub"))
			l.must(os.MkdirAll(d+"sub/other", 0o700))
			l.must(os.Chmod(d+"made", 0o777))
			l.must(os.WriteFile(d+"made/new", nil, 0o644))
			l.must(os.MkdirAll(d+"newer/below", 0o755))
			l.must(os.WriteFile(d+"sticky", []byte("now"), 0o600))
			if name == "ext4" { // whatever chattr says
				if out, err := exec.Command("chattr", "+i", d+"sticky").CombinedOutput(); err != nil {
					t.Fatalf("chattr: %v: %s", err, out)
				}
			}
			reader, err := os.Open(d + "sticky")
			l.must(err)
			defer reader.Close()

			if _, err := m.Restore(context.Background(), l.root, "/d", false); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(then, entries(t, l, all...)); diff != "" {
				t.Errorf("the entries (-then +restored):\n%s", diff)
			}
			if text := [3]byte{}; true {
				if n, err := reader.Read(text[:]); err != nil || string(text[:n]) != "now" {
					t.Errorf("who had the file open reads %q, %v, want what it was: now", text[:n], err)
				}
			}
		})
	}
}

func TestOnlyThePathIsRestored(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	l := newLab(t)
	l.put("lower0/etc/a")
	l.stack("redirect_dir=off,index=off,metacopy=off")
	m := l.snapshot()
	l.put("root/etc/a", "new")
	l.put("root/etc/b", "new")
	l.put("root/etc/.veneer-restore.tmp", "left by a stop")
	done, err := m.Restore(context.Background(), l.root, "/etc/a", false)
	if diff := cmp.Diff([]Restored{{"/etc/a", "replaced"}}, done); diff != "" || err != nil {
		t.Errorf("Restore() = %v, %v", done, err)
	}
	if names, err := filepath.Glob(l.root + "/etc/*"); err != nil || len(names) != 2 {
		t.Errorf("/etc has %q, %v; want a and b", names, err)
	}
	if _, err := os.Lstat(l.root + "/etc/.veneer-restore.tmp"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a stop had left is still there: %v", err)
	}
}

// What cannot be done at once is refused before anything is done.
func TestWhatCannotBeRestoredAtOnceIsRefused(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	l := newLab(t)
	l.put("lower0/etc/a")
	l.put("lower0/var/x")
	l.put("bound/x", "now")
	l.put("bound-old/x", "then")
	l.stack("redirect_dir=off,index=off,metacopy=off")
	l.put("root/srv/gone/x")
	m := l.snapshot()
	l.must(os.RemoveAll(l.root + "/srv/gone"))
	l.put("root/etc/a", "new")
	l.put("root/new/dir/mnt/x")
	l.put("root/new/bound/x")
	for _, b := range []mount.Op{mount.Mount{Type: "tmpfs", Source: "t", Target: l.root + "/new/dir/mnt"},
		mount.Mount{Source: l.dir + "/bound", Target: l.root + "/new/bound", Flags: unix.MS_BIND}} {
		l.must(mount.Kernel{}.Apply(b))
	}
	m.Sources = append(m.Sources, Source{Mount: "/new/bound", Bind: true, Upper: &Layer{Dir: l.dir + "/bound"}, Old: &Layer{Dir: l.dir + "/bound-old"}})
	m.Foreign = []Foreign{{"/new/dir/mnt", "a mount of its own (tmpfs)"}}
	want := snapshotOf(t, l.root)
	for path, words := range map[string]string{
		"/new":           "/new/bound is mounted by a rule",
		"/new/dir":       "/new/dir/mnt is a mount of its own",
		"/new/dir/mnt/x": "a mount of its own",
		"/":              "/new/bound is mounted by a rule",
	} {
		done, err := m.Restore(context.Background(), l.root, path, false)
		if !errors.Is(err, ErrNotAtOnce) || !strings.Contains(err.Error(), words) || len(done) > 0 {
			t.Errorf("Restore(%s) = %v, %v; want ErrNotAtOnce with %q", path, done, err, words)
		}
	}
	if _, err := m.Restore(context.Background(), l.root, "/srv/gone/x", false); err == nil || !strings.Contains(err.Error(), "return to /srv/gone as a whole") {
		t.Errorf("Restore of a file whose directory has gone: %v", err)
	}
	if _, err := m.Restore(context.Background(), l.root, "/nowhere", false); !errors.Is(err, ErrNothingThere) {
		t.Errorf("Restore(/nowhere) = %v", err)
	}
	if diff := cmp.Diff(want, snapshotOf(t, l.root), cmp.AllowUnexported(seen{})); diff != "" {
		t.Errorf("a refusal changed (-before +after):\n%s", diff)
	}
	done, err := m.Restore(context.Background(), l.root, "/new/bound", false)
	if text, _ := os.ReadFile(l.dir + "/bound/x"); err != nil || string(text) != "then" {
		t.Errorf("Restore(/new/bound) = %v, %v, and the file says %q", done, err, text)
	}
}

// A disk that fills up stops a return between two files: each is as it was or as it becomes.
func TestAFullDiskLeavesEachFileWhole(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	l := newLab(t)
	l.stack("redirect_dir=off,index=off,metacopy=off")
	big := strings.Repeat("x", 1<<20)
	for _, n := range []string{"a", "b", "c"} {
		l.put("root/d/"+n, big+"then "+n)
	}
	m := l.snapshot()
	for _, n := range []string{"a", "b", "c"} {
		l.put("root/d/"+n, "now "+n)
	}
	l.must(unix.Mount("t", l.dir, "tmpfs", unix.MS_REMOUNT, "size=5500k"))
	done, err := m.Restore(context.Background(), l.root, "/d", false)
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "veneer du") || len(done) == 0 || len(done) == 3 {
		t.Fatalf("Restore() = %v, %v; want some, and ENOSPC with a remedy", done, err)
	}
	for i, n := range []string{"a", "b", "c"} {
		want := "now " + n
		if i < len(done) {
			want = big + "then " + n
		}
		if text, err := os.ReadFile(l.root + "/d/" + n); err != nil || string(text) != want {
			t.Errorf("%s has %d bytes, %v; want %d", n, len(text), err, len(want))
		}
	}
	l.must(unix.Mount("t", l.dir, "tmpfs", unix.MS_REMOUNT, "size=64m"))
	if _, err := m.Restore(context.Background(), l.root, "/d", false); err != nil {
		t.Error(err)
	}
	if names, err := os.ReadDir(l.root + "/d"); err != nil || len(names) != 3 {
		t.Errorf("d has %v, %v", names, err)
	}
}
