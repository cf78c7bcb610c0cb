package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
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
	line(squashfsArgs("mksquashfs", "OUT", FileSystem{Type: Squashfs, blockSize: 131072, leastBlock: 4096}, &Tree{Root: root, Bytes: 1 << 30}))
	line(squashfsArgs("mksquashfs", "OUT", FileSystem{Type: Squashfs, blockSize: 1 << 20, Level: 3}, &Tree{Root: root, Bytes: 1 << 30}))
	line(squashfsArgs("mksquashfs", "OUT", FileSystem{Type: Squashfs, blockSize: 131072, leastBlock: 4096}, &Tree{Root: root, Bytes: 20000}))
	line(squashfsArgs("mksquashfs", "OUT", FileSystem{Type: Squashfs, blockSize: 131072, leastBlock: 4096}, &Tree{Root: root, Bytes: 16 << 10}))
	line(erofsArgs("mkfs.erofs", "OUT", FileSystem{Type: Erofs, blockSize: 65536}, "DIR"))
	line(erofsArgs("mkfs.erofs", "OUT", FileSystem{Type: Erofs, blockSize: 4096, Level: 12}, "DIR"))
	golden(t, "argv.txt", b.String())
}

func TestASmallSquashfsHasBlocksThatItCanFill(t *testing.T) {
	for _, c := range []struct {
		arch    string
		content int64
		want    int
	}{{"amd64", 0, 4096}, {"amd64", 4096, 4096}, {"amd64", 4097, 8192}, {"amd64", 65536, 65536}, {"amd64", 65537, 131072}, {"amd64", 1 << 40, 131072},
		{"arm64", 1, 65536}, {"arm64", 65537, 131072}} {
		fs := FileSystem{Type: Squashfs, blockSize: 128 << 10, leastBlock: leastBlock(c.arch)}
		if got := fs.squashfsBlock(c.content); got != c.want {
			t.Errorf("%d bytes on %s: blocks of %d, want %d", c.content, c.arch, got, c.want)
		}
	}
	configured := FileSystem{Type: Squashfs, blockSize: 4096, leastBlock: leastBlock("arm64")}
	if got := configured.squashfsBlock(1); got != 4096 {
		t.Errorf("blocks of %d, want what was configured, 4096", got)
	}
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
	now.Tools = append([]images.Tool{{Name: "veneer", Version: "2"}, {Name: "zstd", Version: "2"}}, before.Tools...)
	before.Tools = append([]images.Tool{{Name: "veneer", Version: "1"}, {Name: "zstd", Version: "1"}}, before.Tools...)
	if got := warnings(before, now); len(got) != 0 {
		t.Errorf("of tools that do not shape each block warnings() = %q", got)
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

func TestAMissingToolIsNamedWithItsPackage(t *testing.T) {
	p := newProject(t, "")
	spec := p.spec(t, filepath.Join(t.TempDir(), "out"))
	packages["no-such-tool"] = "no-such-package"
	defer delete(packages, "no-such-tool")
	if _, err := findTool("no-such-tool"); !errors.Is(err, errMissingTool) || !strings.Contains(err.Error(), "apt-get install no-such-package") {
		t.Errorf("findTool() = %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Build(context.Background(), spec); !errors.Is(err, errMissingTool) || !strings.Contains(err.Error(), "install the package squashfs-tools") {
		t.Errorf("Build() = %v", err)
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
