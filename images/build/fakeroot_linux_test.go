package build

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// archiveHelper tells the test program to make an image, of the type and the archive that the value names.
const archiveHelper = "VENEER_TEST_ARCHIVE"

// makeForHelper is the part of the tests below that runs as somebody else.
func makeForHelper(t *testing.T, fstype, archive string) {
	t.Helper()
	s, err := newStage("out's $dir") // relative, and nothing that a shell should see
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tools := map[string]string{}
	for _, name := range []string{"mksquashfs", "mkfs.erofs"} {
		if tools[name], err = findTool(name); err != nil {
			t.Fatal(err)
		}
	}
	fs := quickSquashfs
	if fstype == Erofs {
		fs = quickErofs
	}
	j := imageJob{role: "base", name: "base", fs: fs, source: archive, allowed: append(usualLosses(), LossACL, LossTimes)}
	if err := j.scan(context.Background(), s.dir); err != nil {
		t.Fatal(err)
	}
	defer j.tree.Close()
	img, err := j.make(context.Background(), tools, s, nil, nil)
	if err == nil {
		err = os.Rename(s.path("images/"+img.ID+".img"), archive+".img")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// asUser runs the calling test again in a directory of its own, as the user with an ID, and returns what it makes of an archive.
func asUser(t *testing.T, uid uint32, fstype, archive string) ([]byte, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "veneer-test-") // nobody can get at it, other than at that of the test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, program, copied := read(t, "/proc/self/exe"), filepath.Join(dir, "test-program"), filepath.Join(dir, "tree.tar")
	if err := errors.Join(os.Chmod(dir, 0o777), os.WriteFile(program, self, 0o755), os.WriteFile(copied, read(t, archive), 0o644)); err != nil {
		t.Fatal(err)
	}
	top, _, _ := strings.Cut(t.Name(), "/")
	cmd := exec.Command(program, "-test.run", "^"+top+"$")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), archiveHelper+"="+fstype+":"+copied)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, errors.New(string(out))
	}
	return read(t, copied+".img"), nil
}

const nobody = 65534

// An archive is built by nobody here, and has to become what root makes of it.
func TestAnArchiveNeedsNoRoot(t *testing.T) {
	if fstype, archive, ok := strings.Cut(os.Getenv(archiveHelper), ":"); ok {
		makeForHelper(t, fstype, archive)
		return
	}
	needRoot(t)
	for _, name := range append(fakeryTools, "mksquashfs", "mkfs.erofs") {
		if _, err := findTool(name); err != nil {
			t.Skip(err)
		}
	}
	dir := t.TempDir()
	hardTree(t, dir)
	hardForErofs(t, dir)
	hard := tarOf(t, dir, "--acls")
	// GNU tar keeps no second names of devices and fifos.
	links := filepath.Join(t.TempDir(), "links.tar")
	members := []member{dirMember("./"), {Header: tar.Header{Name: "char", Typeflag: tar.TypeChar, Devmajor: 4, Devminor: 300, Uid: 7}},
		{Header: tar.Header{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o4700}}, fileMember("file", "x"), linkMember("link", "/nowhere")}
	for _, target := range []string{"char", "fifo", "file", "link"} {
		members = append(members, member{Header: tar.Header{Name: "also-" + target, Linkname: target, Typeflag: tar.TypeLink}})
	}
	write(t, links, string(archiveOf(t, members...)))
	for _, tt := range []struct{ name, fstype, archive string }{
		{"squashfs", Squashfs, hard},
		{"EROFS", Erofs, hard},
		{"EROFS of second names", Erofs, links},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want, err := asUser(t, 0, tt.fstype, tt.archive)
			if err != nil {
				t.Fatal(err)
			}
			got, err := asUser(t, nobody, tt.fstype, tt.archive)
			if err != nil {
				t.Fatal(err)
			}
			if tt.fstype == Erofs {
				image := filepath.Join(t.TempDir(), "image")
				write(t, image, string(got))
				tree := t.TempDir()
				run(t, "tar", "tar", "-xpf", tt.archive, "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-C", tree)
				if diff := cmp.Diff(snapshot(t, tree, 1), snapshot(t, mounted(t, image, "erofs"), 1)); diff != "" {
					t.Errorf("nobody's image differs from the tree (-tree +image):\n%s", diff)
				}
			}
			if !bytes.Equal(want, got) {
				t.Error("nobody's image differs from root's")
			}
		})
	}
}

// hardForErofs makes a hard tree one that EROFS and fakeroot can keep, and adds what squashfs cannot.
func hardForErofs(t *testing.T, dir string) {
	t.Helper()
	at := func(name string) string { return dir + "/" + name }
	long := at("names/" + strings.Repeat("n", 255))
	deep := at("deep/" + strings.Repeat(strings.Repeat("d", 120)+"/", 5) + "leaf")
	old, err := unix.TimeToTimespec(time.Unix(-100, 500))
	for _, err := range []error{err,
		os.Rename(long, long[:len(long)-1]),
		unix.Removexattr(at("bin/capable"), "user.long"),
		unix.Setxattr(deep, "user.odd\n\\\xff", []byte("x"), 0),
		unix.Setxattr(at("names/new\nline"), "user.of-an-odd-name", []byte("x"), 0),
		unix.Setxattr(at("names/ space at both ends "), "user.of-an-odd-name", []byte("x"), 0),
		unix.Setxattr(at("names/\xff\xfe not UTF-8"), "user.of-an-odd-name", []byte("x"), 0),
		unix.Lsetxattr(at("links/dangling"), "trusted.of-a-link", []byte("x"), 0),
		unix.Setxattr(at("bin"), "system.posix_acl_default", acl(7, 5, 5, 0), 0),
		unix.Setxattr(at("bin/size-1"), "system.posix_acl_access", acl(6, 4, 4, 0), 0),
		unix.UtimesNanoAt(unix.AT_FDCWD, at("bin/size-511"), []unix.Timespec{old, old}, 0),
		os.Chmod(dir, 0o1755), os.Chown(dir, 3, 4), os.Chtimes(dir, time.Now(), time.Now()),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// acl is a POSIX ACL with an entry for user 5, see linux/posix_acl_xattr.h.
func acl(user, group, mask, other byte) []byte {
	const none = "\xff\xff\xff\xff"
	return []byte("\x02\x00\x00\x00" + "\x01\x00" + string(user) + "\x00" + none + "\x02\x00\x04\x00\x05\x00\x00\x00" +
		"\x04\x00" + string(group) + "\x00" + none + "\x10\x00" + string(mask) + "\x00" + none + "\x20\x00" + string(other) + "\x00" + none)
}

func TestWhatFakerootCannotShowIsRefusedWithItsPath(t *testing.T) {
	xattr := func(name string, size int) Xattr { return Xattr{"user." + name, bytes.Repeat([]byte("v"), size)} }
	var many []Xattr
	for i := range 40 {
		many = append(many, xattr(strings.Repeat("n", 20+i), 1))
	}
	for _, tt := range []struct {
		name   string
		xattrs []Xattr
		want   string // "" where it can
	}{
		{"as much as it takes", []Xattr{xattr("a", 1017)}, ""},
		{"a value that is too long", []Xattr{xattr("a", 1018)}, "some/file: user.a has 1018 bytes, and fakeroot takes 1017 of it\n    -> run as root, or use"},
		{"too many names", many, "some/file: the names of its extended attributes have 1820 bytes, and fakeroot takes 1024\n    -> run as root"},
		{"one that no image keeps", []Xattr{{"btrfs.compression", make([]byte, 2000)}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree := &Tree{Source: "tree.tar", Root: Entry{Path: "."}, Entries: []*Entry{{Path: "some/file", Xattrs: tt.xattrs}}}
			if err := tree.checkFakery(); tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("checkFakery() = %v, want …%s…", err, tt.want)
			}
		})
	}
}

func TestWithoutFakerootTheErrorNamesItsPackage(t *testing.T) {
	archive := filepath.Join(t.TempDir(), "tree.tar")
	write(t, archive, "")
	c := Config{Source: t.TempDir(), FileSystem: FileSystem{Type: Erofs}, Layers: []LayerConfig{{Source: archive}}}
	if got := neededTools(c, nobody); !slices.Contains(got, "fakeroot") || !slices.Contains(got, "setfattr") {
		t.Errorf("of an archive neededTools() = %q", got)
	}
	if got := neededTools(c, 0); slices.Contains(got, "fakeroot") {
		t.Errorf("for root neededTools() = %q", got)
	}
	c.Layers = nil
	if got := neededTools(c, nobody); slices.Contains(got, "fakeroot") {
		t.Errorf("of a directory neededTools() = %q", got)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := newFakery(&Tree{Source: "tree.tar"}, "mkfs.erofs"); !errors.Is(err, errMissingTool) ||
		!strings.HasPrefix(err.Error(), "EROFS of tree.tar without being root: fakeroot is missing: install the package fakeroot ") {
		t.Errorf("newFakery() = %v", err)
	}
}

func TestAProgramThatFakerootHasNoHoldOnIsRefused(t *testing.T) {
	static := filepath.Join(t.TempDir(), "mkfs.erofs")
	if err := os.WriteFile(static, elfProgram(elf.EM_X86_64, ""), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range fakeryTools {
		if _, err := findTool(name); err != nil {
			t.Skip(err)
		}
	}
	if _, err := newFakery(&Tree{Source: "tree.tar"}, static); err == nil || !strings.Contains(err.Error(), static+" is not linked with the C library") {
		t.Errorf("newFakery() = %v", err)
	}
}

// fakeroot's daemon is in no process group of ours.
func TestABuildThatIsStoppedLeavesNoDaemon(t *testing.T) {
	f, err := newFakery(&Tree{}, "/bin/sleep")
	if errors.Is(err, errMissingTool) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	inside := func() (list []string) {
		t.Helper()
		all, err := filepath.Glob("/proc/[0-9]*/cwd")
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range all {
			if at, err := os.Readlink(link); err == nil && at == dir {
				list = append(list, filepath.Dir(link))
			}
		}
		return list
	}
	c, err := f.wrap(command{argv: []string{"/bin/sleep", "60"}}, dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- c.run(ctx) }()
	deadline := time.Now().Add(20 * time.Second)
	for len(inside()) < 3 && time.Now().Before(deadline) { // the script, its daemon, and the program
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("run() = %v", err)
	}
	for deadline = time.Now().Add(20 * time.Second); len(inside()) > 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if left := inside(); len(left) > 0 {
		t.Errorf("still there: %q", left)
	}
}
