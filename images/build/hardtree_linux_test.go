package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// needRoot skips a test that makes owners, devices and mounts.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("makes owners, devices and mounts: run as root")
	}
}

// hardTree makes a tree that holds whatever an image has to keep.
func hardTree(t *testing.T, dir string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return dir + "/" + name }
	file := func(name string, content []byte, mode uint32) {
		must(os.WriteFile(at(name), content, 0o600))
		must(unix.Chmod(at(name), mode))
	}
	for _, d := range []string{"empty", "bin", "etc", "dev", "many", "deep", "names", "links"} {
		must(os.Mkdir(at(d), 0o755))
	}
	must(unix.Chmod(at("empty"), 0o3777))
	random := func(n int) []byte {
		b := make([]byte, n)
		x := uint32(n)
		for i := range b {
			x = x*1664525 + 1013904223
			b[i] = byte(x >> 24)
		}
		return b
	}
	// Sizes around blocks and fragments.
	for _, n := range []int{0, 1, 511, 512, 4095, 4096, 131071, 131072, 131073, 400000} {
		file(fmt.Sprintf("bin/size-%d", n), random(n), 0o644)
	}
	file("bin/suid", []byte("suid"), 0o6755)
	file("bin/unreadable", []byte("secret"), 0)
	file("bin/duplicate", random(400000), 0o644)
	file("bin/owner", []byte("x"), 0o640)
	must(os.Chown(at("bin/owner"), 100000, 3000000000))
	file("bin/capable", []byte("ping"), 0o755)
	must(unix.Setxattr(at("bin/capable"), "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
	must(unix.Setxattr(at("bin/capable"), "user.binary", []byte("a\x00b\nc=d"), 0))
	must(unix.Setxattr(at("bin/capable"), "user.empty", nil, 0))
	must(unix.Setxattr(at("bin/capable"), "user.long", random(3000), 0))
	must(unix.Setxattr(at("etc"), "user.dir", []byte("on a directory"), 0))
	must(unix.Lsetxattr(at("bin/owner"), "trusted.some", []byte("root only"), 0))
	// One whose PAX records fill a block exactly: "512 SCHILY.xattr.user.pad=...\n".
	file("bin/full-block", []byte("x"), 0o644)
	must(unix.Setxattr(at("bin/full-block"), "user.pad", bytes.Repeat([]byte("p"), 512-len("512 SCHILY.xattr.user.pad=\n")), 0))

	sparse, err := os.Create(at("bin/sparse"))
	must(err)
	_, err = sparse.WriteAt([]byte("end"), 5<<20)
	must(err)
	must(sparse.Truncate(6 << 20))
	must(sparse.Close())

	must(unix.Mknod(at("dev/char"), unix.S_IFCHR|0o620, int(unix.Mkdev(4, 64))))
	must(unix.Mknod(at("dev/block"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
	must(unix.Mkfifo(at("dev/fifo"), 0o644))

	long := strings.Repeat("n", 255)
	deep := "deep"
	for range 5 {
		deep += "/" + strings.Repeat("d", 120)
		must(os.Mkdir(at(deep), 0o755))
	}
	file(deep+"/leaf", []byte("far down"), 0o644)
	for i, name := range []string{long, "\xff\xfe not UTF-8", "new\nline", `quote"s and 'more'`, `back\slash`, " space at both ends ", "-dash", "*?[glob]",
		"#comment", "..dots", "tab\there", "ümlaut", "trailing\\", "%s%n", "a=b", "\x01control"} {
		file("names/"+name, []byte(fmt.Sprint(i)), 0o644)
	}
	for i := range 1200 {
		file(fmt.Sprintf("many/%04d", i), []byte{byte(i)}, 0o644)
	}
	for name, target := range map[string]string{"relative": "../bin/suid", "dangling": "nowhere", "absolute": "/etc/absolute", "up": "../../../up",
		"dot": "./bin", "long": "/" + strings.Repeat("long/", 100) + "end", "long-up": strings.Repeat("../", 100) + "end", "exact": strings.Repeat("x", 100),
		"newline": "new\nline", "non-utf8": "\xff\xfe"} {
		must(os.Symlink(target, at("links/"+name)))
	}
	must(os.Lchown(at("links/dangling"), 7, 8))
	must(os.Link(at("bin/size-400000"), at("links/hard")))
	must(os.Link(at("bin/size-400000"), at("bin/a-hard")))
	must(os.Link(at("links/dangling"), at("links/hard-symlink")))
	must(os.Link(at("dev/fifo"), at("links/hard-fifo")))
	must(os.Link(at("dev/char"), at("links/hard-char")))
	must(os.Link(at(deep+"/leaf"), at(deep+"/hard-leaf")))

	// Times last: 1970, one with nanoseconds, and some years.
	stamp := func(name string, when time.Time) {
		ts, err := unix.TimeToTimespec(when)
		must(err)
		must(unix.UtimesNanoAt(unix.AT_FDCWD, at(name), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
	}
	stamp("bin/size-0", time.Unix(0, 0))
	stamp("bin/size-1", time.Unix(1600000000, 123456789))
	stamp("links/dangling", time.Unix(1500000000, 0))
	stamp("empty", time.Unix(1400000000, 0))
	must(unix.Chmod(dir, 0o755))
	stamp(".", time.Now()) // the newest, which is what a root directory gets
}

// snapshot describes every file below dir, on its own and not by the code under test. Times are cut to the unit.
func snapshot(t *testing.T, dir string, unit time.Duration) map[string]string {
	t.Helper()
	shot := map[string]string{}
	first := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		text := fmt.Sprintf("%o %d:%d %s", st.Mode, st.Uid, st.Gid, time.Unix(st.Mtim.Unix()).Truncate(unit).UTC().Format(time.RFC3339Nano))
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %d %x", st.Size, sha256.Sum256(content))
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" -> %q", target)
		case unix.S_IFCHR, unix.S_IFBLK:
			text += fmt.Sprintf(" %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if first[st.Ino] == "" {
				first[st.Ino] = rel
			}
			text += fmt.Sprintf(" %d links, first %q", st.Nlink, first[st.Ino])
		}
		list := make([]byte, 64<<10)
		n, err := unix.Llistxattr(path, list)
		if err != nil {
			return err
		}
		names := strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00")
		slices.Sort(names)
		for _, name := range names {
			if name == "" {
				continue
			}
			value := make([]byte, 64<<10)
			n, err := unix.Lgetxattr(path, name, value)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %s=%x", name, sha256.Sum256(value[:n]))
		}
		shot[rel] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return shot
}

// mounted mounts an image read-only for the duration of a test.
func mounted(t *testing.T, image, fstype string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", fstype, "-o", "ro,loop", image, dir).CombinedOutput(); err != nil {
		t.Fatalf("mount %s: %v: %s", image, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// tarOf makes an archive of a directory with GNU tar.
func tarOf(t *testing.T, dir string, flags ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "tree.tar")
	argv := []string{"tar", "--format=posix", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-cf", name, "-C", dir}
	if len(flags) == 0 || !strings.HasPrefix(flags[len(flags)-1], "--files-from=") {
		flags = append(flags, ".")
	}
	run(t, "tar", append(argv, flags...)...)
	return name
}

// makeImage makes an image of a source, in the way that Build does.
func makeImage(t *testing.T, fs FileSystem, source string, epoch *time.Time, allowed ...Loss) string {
	t.Helper()
	s, err := newStage(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	tools := map[string]string{}
	for _, name := range []string{"mksquashfs", "mkfs.erofs"} {
		if tools[name], err = findTool(name); err != nil {
			t.Skip(err)
		}
	}
	j := imageJob{role: "base", name: "base", fs: fs, source: source, allowed: append(usualLosses(), allowed...)}
	if err := j.scan(context.Background(), s.dir); err != nil {
		t.Fatal(err)
	}
	defer j.tree.Close()
	img, err := j.make(context.Background(), tools, s, epoch, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s.path("images/" + img.ID + ".img")
}

var (
	quickSquashfs = FileSystem{Type: Squashfs, blockSize: 128 << 10, Level: 1}
	quickErofs    = FileSystem{Type: Erofs, blockSize: 64 << 10, Level: 1}
)

func TestAHardTreeSurvives(t *testing.T) {
	needRoot(t)
	dir, short := t.TempDir(), t.TempDir()
	hardTree(t, dir)
	hardTree(t, short)
	long := short + "/names/" + strings.Repeat("n", 255)
	if err := os.Rename(long, long[:len(long)-1]); err != nil { // mkfs.erofs 1.5 takes no longer one
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		fs     FileSystem
		source string
		unit   time.Duration
	}{
		{"a directory in squashfs", quickSquashfs, dir, time.Second},
		{"an archive in squashfs", quickSquashfs, tarOf(t, dir, "--sparse"), time.Second},
		{"a directory in EROFS", quickErofs, short, 1},
		{"an archive in EROFS", quickErofs, tarOf(t, short, "--sparse"), 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree := tt.source
			if info, err := os.Stat(tree); err == nil && !info.IsDir() {
				// GNU tar itself takes the names of a device or fifo apart.
				tree = t.TempDir()
				run(t, "tar", "tar", "-xpf", tt.source, "--xattrs", "--xattrs-include=*", "--numeric-owner", "-C", tree)
			}
			want := snapshot(t, tree, tt.unit)
			got := snapshot(t, mounted(t, makeImage(t, tt.fs, tt.source, nil), tt.fs.Type), tt.unit)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the image differs from the tree (-tree +image):\n%s", diff)
			}
			if after := snapshot(t, tree, tt.unit); !cmp.Equal(want, after) {
				t.Error("the build changed the source")
			}
		})
	}
}
