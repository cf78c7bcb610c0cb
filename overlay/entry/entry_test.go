package entry

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"veneer/overlay/mount/mounttest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sh(t testing.TB, dir, script string) string {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

func open(t testing.TB, path string) int {
	t.Helper()
	fd, err := OpenRoot(path)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestMarks(t *testing.T) {
	fd := open(t, t.TempDir())
	must(t, unix.Mkdirat(fd, "d", 0o755))
	must(t, unix.Symlinkat("d", fd, "l"))
	must(t, MakeWhiteout(fd, "w"))
	for name, want := range map[string]bool{"w": true, "d": false, "l": false} {
		if st, err := At(fd, name); err != nil || st.Whiteout() != want {
			t.Errorf("%s: a whiteout: %v, %v", name, st.Whiteout(), err)
		}
	}
	if err := MakeWhiteout(fd, "d"); !errors.Is(err, os.ErrExist) {
		t.Errorf("MakeWhiteout over a directory: %v", err)
	}
	must(t, SetOpaque(fd, "d", true))
	must(t, SetXattr(fd, "d", Xattr{"trusted.overlay.origin", []byte("x")}))
	must(t, SetXattr(fd, "d", Xattr{"trusted.overlay.redirect", []byte("x")}))
	must(t, SetXattr(fd, "d", Xattr{"trusted.b", []byte("1")}))
	must(t, SetXattr(fd, "d", Xattr{"trusted.a", nil}))
	must(t, SetXattr(fd, "l", Xattr{"trusted.l", []byte("of the link")}))
	attrs, marks, err := Xattrs(fd, "d")
	must(t, err)
	if diff := cmp.Diff([]Xattr{{"trusted.a", []byte{}}, {"trusted.b", []byte("1")}}, attrs); diff != "" || marks != (Marks{Opaque: true, Redirect: true}) {
		t.Errorf("Xattrs: %+v (-want +got):\n%s", marks, diff)
	}
	if attrs, _, err := Xattrs(fd, "l"); err != nil || len(attrs) != 1 || attrs[0].Name != "trusted.l" {
		t.Errorf("of a link: %v, %v", attrs, err)
	}
	must(t, SetXattrs(fd, "d", []Xattr{{"trusted.b", []byte("2")}, {"trusted.c", []byte("3")}}))
	must(t, SetOpaque(fd, "d", false))
	must(t, SetOpaque(fd, "d", false))
	sub, err := OpenDir(fd, "d")
	must(t, err)
	defer unix.Close(sub)
	attrs, marks, err = Xattrs(sub, "")
	must(t, err)
	if diff := cmp.Diff([]Xattr{{"trusted.b", []byte("2")}, {"trusted.c", []byte("3")}}, attrs); diff != "" || marks != (Marks{Redirect: true}) {
		t.Errorf("Xattrs: %+v (-want +got):\n%s", marks, diff)
	}
}

const tree = `umask 022
	mkdir -p d/e d/empty; echo hello >d/a; chown 3:4 d/a; chmod 4750 d/a; ln d/a d/e/b; ln -s /nowhere d/l; chown -h 5:6 d/l; mkfifo -m 640 d/p
	mknod d/c c 1 3; mknod d/b b 7 1; chmod 1777 d/e; setfattr -n user.x -v 1 d/a; setfattr -h -n trusted.y -v 2 d/l; setfattr -n trusted.z -v 3 d/e
	truncate -s 3M d/sparse; echo end >>d/sparse; printf x | dd of=d/sparse bs=1 seek=1000000 conv=notrunc 2>/dev/null; : >d/zero; truncate -s 1M d/hole
	cp /bin/true d/cap; setcap cap_net_raw+ep d/cap; setfattr -n trusted.overlay.opaque -v y d/e; setfattr -n trusted.overlay.origin -v y d/e; mknod d/w c 0 0
	touch -h -d '2001-02-03 04:05:06.789012345' d/a d/l d/p d/c d/e d; touch -d '1960-01-01' d/zero`

// list shows everything that a copy keeps.
const list = `find . -mindepth 1 ! -name l ! -type d -printf '%P %y %m %U:%G %s %T@ %n %l\n' | sort; find . -mindepth 1 -name l -printf '%P %U:%G %T@ %l\n' | sort
	find . -mindepth 1 -type d -printf '%P %m %U:%G %T@\n' | sort; find . -type f | sort | xargs sha256sum; getfattr -hRdm - . 2>/dev/null | grep -v 'trusted.overlay.o[pr]' | sort; stat -c '%n %t:%T' d/c d/b d/w`

func TestACopyHasEverything(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	for _, fs := range []string{"ext4", "btrfs", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			dir := fileSystem(t, fs)
			must(t, os.Mkdir(filepath.Join(dir, "from"), 0o755))
			must(t, os.Mkdir(filepath.Join(dir, "to"), 0o755))
			from, to := open(t, filepath.Join(dir, "from")), open(t, filepath.Join(dir, "to"))
			sh(t, filepath.Join(dir, "from"), tree)
			want := sh(t, filepath.Join(dir, "from"), list)
			c := &Copier{Sync: true}
			must(t, c.Copy(from, "d", to, "d"))
			if diff := cmp.Diff(want, sh(t, filepath.Join(dir, "to"), list)); diff != "" {
				t.Errorf("copy (-original +copy):\n%s", diff)
			}
			sh(t, filepath.Join(dir, "to"), `test d/a -ef d/e/b; test $(stat -c %b d/sparse) -lt 1000; test $(stat -c %b d/hole) = 0; ! getfattr -m - d/e | grep overlay`)
			must(t, (&Copier{Marks: true}).Copy(from, "d", to, "upper"))
			sh(t, filepath.Join(dir, "to"), `getfattr -m - upper/e | grep overlay | grep -q opaque; ! getfattr -m - upper/e | grep origin`)
			if err := c.Copy(from, "d", to, "d"); !errors.Is(err, os.ErrExist) {
				t.Errorf("Copy over a directory: %v", err)
			}
			must(t, Remove(to, "d"))
			must(t, Remove(to, "d"))
			if Exists(to, "d") {
				t.Error("it is still there")
			}
		})
	}
}

// fileSystem makes and mounts a file system of its own.
func fileSystem(t *testing.T, fs string) string {
	t.Helper()
	dir := t.TempDir()
	img := filepath.Join(dir, "img")
	sh(t, dir, "mkdir mnt; truncate -s 320M img; mkfs."+fs+" -q img; mount -o loop img mnt")
	t.Cleanup(func() { unix.Unmount(filepath.Join(dir, "mnt"), unix.MNT_DETACH); os.Remove(img) })
	return filepath.Join(dir, "mnt")
}

func TestRemoveTakesEveryTree(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	dir := fileSystem(t, "ext4")
	fd := open(t, dir)
	sh(t, dir, `mkdir -p i/d; echo 1 >i/d/f; echo 1 >i/a; ln -s / i/l; echo 1 >keep; ln -s ../keep i/k; chattr +i i/d/f i/d; chattr +a i/a i; mkdir wide; cd wide; seq 3000 | xargs touch`)
	// Deeper than any path can lead.
	deep, err := OpenDir(fd, "")
	must(t, err)
	must(t, unix.Mkdirat(deep, "deep", 0o755))
	name := strings.Repeat("x", 200)
	at, err := OpenDir(deep, "deep")
	must(t, err)
	for range 300 {
		must(t, unix.Mkdirat(at, name, 0o755))
		must(t, Write(at, "f", []byte("x")))
		next, err := OpenDir(at, name)
		must(t, err)
		unix.Close(at)
		at = next
	}
	unix.Close(at)
	if err := Walk(fd, func(int, string, string, Stat) (bool, error) { return true, nil }); !errors.Is(err, ErrTooDeep) {
		t.Errorf("Walk of it: %v, want ErrTooDeep", err)
	}
	for _, name := range []string{"i", "wide", "deep", "not there"} {
		if err := Remove(fd, name); err != nil || Exists(fd, name) {
			t.Errorf("Remove(%s) = %v", name, err)
		}
	}
	if !Exists(fd, "keep") {
		t.Error("a link was followed")
	}
	// A bind mount of the same file system is another one, too.
	sh(t, dir, "mkdir -p m/a m/z; echo 1 >keep; mkdir src; echo 1 >src/f; mount --bind src m/z")
	if err := Remove(fd, "m"); !errors.Is(err, ErrOtherFileSystem) {
		t.Errorf("Remove of a tree with a mount = %v", err)
	}
	sh(t, dir, "test -e src/f; umount m/z")
}

func TestNothingIsOpenedThroughALink(t *testing.T) {
	dir := t.TempDir()
	fd := open(t, dir)
	sh(t, dir, "mkdir -p a/b; ln -s a l; ln -s b a/m; ln -s /etc abs; echo 1 >a/f; ln -s f a/g")
	for _, path := range []string{"l", "l/b", "a/m", "abs", "..", "a/../..", "a/f"} {
		if got, err := OpenBeneath(fd, path); err == nil {
			unix.Close(got)
			t.Errorf("OpenBeneath(%s) was let through", path)
		}
	}
	got, err := OpenBeneath(fd, "a/b")
	must(t, err)
	unix.Close(got)
	if got, err := OpenDir(fd, "l"); err == nil {
		unix.Close(got)
		t.Error("OpenDir followed a link")
	}
	if got, err := OpenFile(fd, "abs"); err == nil {
		unix.Close(got)
		t.Error("OpenFile followed a link")
	}
}

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a/b", "é \xff\\", "\\x41", "\u2028\u0085\ufffd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q := Quote(s)
		if back, ok := Unquote(q); !ok || back != s {
			t.Errorf("Unquote(%q) = %q, %v, want %q", q, back, ok, s)
		}
		if strings.ContainsAny(q, " \n\t\x00\x7f") || q != strings.ToValidUTF8(q, "?") {
			t.Errorf("Quote(%q) = %q is not printable", s, q)
		}
		if path, ok := Unquote(s); ok && Quote(path) != s {
			t.Errorf("Unquote(%q) = %q, which is quoted otherwise", s, path)
		}
	})
}
