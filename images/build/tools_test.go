package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"veneer/images"
)

func TestCommandLinesStayAsTheyAre(t *testing.T) {
	var b strings.Builder
	line := func(argv []string) { fmt.Fprintln(&b, strings.Join(argv, " ")) }
	root := Entry{Mode: unix.S_IFDIR | 0o1750}
	line(squashfsArgs("mksquashfs", "OUT", FileSystem{Type: Squashfs, blockSize: 131072}, root))
	line(squashfsArgs("mksquashfs", "OUT", FileSystem{Type: Squashfs, blockSize: 1 << 20, Level: 3}, root))
	line(erofsArgs("mkfs.erofs", "OUT", FileSystem{Type: Erofs, blockSize: 65536}, "DIR"))
	line(erofsArgs("mkfs.erofs", "OUT", FileSystem{Type: Erofs, blockSize: 4096, Level: 12}, "DIR"))
	golden(t, "argv.txt", b.String())
}

func TestTheScriptOfAStoreStaysAsItIs(t *testing.T) {
	m := images.Manifest{Images: []images.Image{{ID: strings.Repeat("ab", 32)}, {ID: strings.Repeat("cd", 32)}}}
	golden(t, "store.debugfs", storeScript(placedFiles(m, true)))
}

// Changed bytes here change every image: that is for a release which says so.
func TestTheStreamForMksquashfsStaysAsItIs(t *testing.T) {
	at := time.Unix(1700000000, 5)
	tree := &Tree{content: memory{}, Root: Entry{Path: ".", Mode: unix.S_IFDIR | 0o755}}
	add := func(path string, mode uint32, target string, inode int, xattrs ...Xattr) {
		tree.Entries = append(tree.Entries, &Entry{Path: path, Mode: mode, UID: 1 << 31, GID: 5, Mtime: at, Target: target, inode: inode, Xattrs: xattrs,
			Size: 4, data: []byte("data"), Major: 259, Minor: 70000})
	}
	for _, name := range []string{"z", "link"} {
		add(name, unix.S_IFREG|0o4755, "", 1, Xattr{"user.x", []byte("a\x00b")}, Xattr{"system.posix_acl_access", []byte("left out")})
	}
	add("dir", unix.S_IFDIR|0o700, "", 0)
	add("dir/"+strings.Repeat("n", 120), unix.S_IFLNK|0o777, strings.Repeat("/t", 60), 0)
	add("dev", unix.S_IFBLK|0o600, "", 0)
	add("socket", unix.S_IFSOCK|0o600, "", 0)
	tree.finish()
	var b bytes.Buffer
	s := tarStream{w: &b, epoch: time.Unix(1600000000, 0), done: func(int64) {}}
	if err := s.writeTree(context.Background(), tree); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for block := range slices.Chunk(b.Bytes(), tarBlock) {
		fmt.Fprintf(&text, "%s\n", regexp.MustCompile(`(\\x00)+`).ReplaceAllString(fmt.Sprintf("%q", block), "|"))
	}
	golden(t, "stream.txt", text.String())
}

func TestProgressShowsRateAndRemainingTime(t *testing.T) {
	now := time.Unix(0, 0)
	for _, tt := range []struct {
		name     string
		terminal bool
		want     string
	}{
		{"on a terminal", true, "\r\x1b[Kbase:   0% of 100.0 MiB\r\x1b[Kbase:  50% of 100.0 MiB, 25.0 MiB/s, 2s left\r\x1b[Kkernel read\n\r\x1b[Kbase:  50% of 100.0 MiB, 25.0 MiB/s, 2s left" +
			"\r\x1b[Kbase: 30.0 MiB (4s)\n" +
			"\r\x1b[Kverify: 0s\r\x1b[Kverify:  50% of 2 bytes, 0 bytes/s, 6s left\r\x1b[K"},
		{"elsewhere", false, "kernel read\nbase: 30.0 MiB (4s)\nverify:  50% of 2 bytes, 0 bytes/s, 6s left\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			p := NewProgress(&b, tt.terminal)
			p.now = func() time.Time { return now }
			p.Start("base", 100<<20)
			p.Add(1 << 20) // too soon to be shown
			now = now.Add(2 * time.Second)
			p.Add(49 << 20)
			p.Print("kernel %s", "read")
			now = now.Add(2 * time.Second)
			p.Finish("%s", FormatBytes(30<<20))
			p.Start("verify", 0)
			now = now.Add(6 * time.Second)
			p.Set(1, 2)
			p.Stop()
			if diff := cmp.Diff(tt.want, b.String()); diff != "" {
				t.Errorf("progress (-want +got):\n%s", diff)
			}
		})
	}
	var none *Progress
	none.Start("nothing", 1)
	none.Add(1)
	none.Set(1, 1)
	none.Print("nothing")
	none.Finish("nothing")
	none.Stop()
}

func TestAProgramThatComplainsFailsTheBuild(t *testing.T) {
	sh := func(script string) command { return command{argv: []string{"/bin/sh", "-c", script}, quiet: true} }
	for _, tt := range []struct {
		name string
		c    command
		want string
	}{
		{"though it succeeds", sh("echo left something out >&2"), "sh said:\n  left something out"},
		{"when it fails", sh("echo the reason >&2; exit 3"), "sh: exit status 3:\n  the reason"},
		{"and does not read on", command{argv: []string{"/bin/true"}, feed: func(_ context.Context, w io.Writer) error {
			_, err := w.Write(make([]byte, 1<<21))
			return err
		}}, "true ended before its input did"},
		{"with the reason of whoever feeds it", command{argv: []string{"/bin/cat"}, feed: func(context.Context, io.Writer) error { return errors.New("no more") }}, "no more"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.c.run(context.Background()); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("run() = %v, want %s…", err, tt.want)
			}
		})
	}
}

func TestOtherToolsThanBeforeAreWarnedOf(t *testing.T) {
	before := &images.Manifest{Epoch: 2, Tools: []images.Tool{{Name: "libzstd", Version: "1.5.4"}, {Name: "mksquashfs", Version: "4.5.1"}}}
	now := images.Manifest{Epoch: 2, Tools: []images.Tool{{Name: "libzstd", Version: "1.5.4"}, {Name: "mksquashfs", Version: "4.6.1"}}}
	if got := warnings(before, now); len(got) != 1 || !strings.HasPrefix(got[0], "mksquashfs was 4.5.1 for the previous release and is 4.6.1 now") {
		t.Errorf("warnings() = %q", got)
	}
	now.Tools, now.Epoch = before.Tools, 1
	if got := warnings(before, now); len(got) != 1 || !strings.HasPrefix(got[0], "epoch 1 is below 2") {
		t.Errorf("warnings() = %q", got)
	}
	if got := warnings(nil, now); len(got) != 0 {
		t.Errorf("warnings() = %q", got)
	}
}

func TestToolsTellTheirVersions(t *testing.T) {
	for _, name := range []string{"mksquashfs", "mkfs.erofs"} {
		program, err := findTool(name)
		if err != nil {
			t.Skip(err)
		}
		tools, err := toolVersions(context.Background(), program)
		if err != nil || len(tools) != 2 || tools[1].Name != compressor[name] {
			t.Errorf("toolVersions(%s) = %v, %v", name, tools, err)
		}
	}
}

func TestAKeyThatNothingTrustsIsRefused(t *testing.T) {
	p := newProject(t, "")
	_, other := newSigner(t)
	spec := p.spec(t, filepath.Join(t.TempDir(), "out"))
	spec.Config.Keys.Trusted = []string{other.PublicPath()}
	if _, err := Build(context.Background(), spec); err == nil || !strings.Contains(err.Error(), "nothing that it signs would boot") {
		t.Errorf("Build() = %v", err)
	}
}

func TestTwoBuildsIntoOneDirectoryAreRefused(t *testing.T) {
	p := newProject(t, "")
	out := filepath.Join(t.TempDir(), "out")
	s, err := newStage(out)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := Build(context.Background(), p.spec(t, out)); err == nil || !strings.Contains(err.Error(), "another build writes to it") {
		t.Errorf("Build() = %v", err)
	}
}

func TestAFileOfTheFutureIsAnErrorUntilSourceDateEpochIsSet(t *testing.T) {
	p := newProject(t, "")
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(filepath.Join(p.dir, "tree/etc/hostname"), later, later); err != nil {
		t.Fatal(err)
	}
	spec := p.spec(t, filepath.Join(t.TempDir(), "out"))
	if _, err := Build(context.Background(), spec); err == nil || !strings.Contains(err.Error(), "set SOURCE_DATE_EPOCH") {
		t.Errorf("Build() = %v", err)
	}
	epoch := time.Unix(1700000000, 0)
	spec.Epoch = &epoch
	if _, err := Build(context.Background(), spec); err != nil {
		t.Error(err)
	}
}

// An archive is built by nobody here, and has to become what root makes of it.
func TestAnArchiveNeedsNoRoot(t *testing.T) {
	const helper = "VENEER_TEST_ARCHIVE"
	if archive := os.Getenv(helper); archive != "" {
		tree, err := scanTar(context.Background(), archive, "")
		if err != nil {
			t.Fatal(err)
		}
		program, err := findTool("mksquashfs")
		if err != nil {
			t.Fatal(err)
		}
		if err := makeSquashfs(context.Background(), program, archive+".img", quickSquashfs, tree, tree.newest(nil), nil); err != nil {
			t.Fatal(err)
		}
		return
	}
	needRoot(t)
	dir, err := os.MkdirTemp("", "veneer-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	hard := filepath.Join(dir, "hard")
	if err := errors.Join(os.Mkdir(hard, 0o755), os.Chmod(dir, 0o777), os.WriteFile(filepath.Join(dir, "test-program"), self, 0o755)); err != nil {
		t.Fatal(err)
	}
	hardTree(t, hard)
	for name, archive := range map[string]string{"by root": filepath.Join(dir, "root.tar"), "by nobody": filepath.Join(dir, "nobody.tar")} {
		if err := os.Rename(tarOf(t, hard), archive); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(filepath.Join(dir, "test-program"), "-test.run", "^"+t.Name()+"$")
		cmd.Dir, cmd.Env = dir, append(os.Environ(), helper+"="+archive)
		if name == "by nobody" {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	if !bytes.Equal(read(t, filepath.Join(dir, "root.tar.img")), read(t, filepath.Join(dir, "nobody.tar.img"))) {
		t.Error("nobody's image differs from root's")
	}
}
