package changes

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"veneer/overlay"
	"veneer/overlay/mount"
	"veneer/overlay/mount/mounttest"
)

// lab is an overlay on a tmpfs: lower0 (the base) and lower1 below an upper.
type lab struct {
	t    *testing.T
	dir  string
	root string // the merged tree, once it is stacked
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir()}
	l.must(mount.Kernel{}.Apply(mount.Mount{Type: "tmpfs", Source: "t", Target: l.dir}))
	t.Cleanup(func() { _ = unix.Unmount(l.dir, unix.MNT_DETACH) })
	for _, d := range []string{"lower0", "lower1", "upper", "work", "root"} {
		l.must(os.Mkdir(filepath.Join(l.dir, d), 0o755))
	}
	return l
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) stack(options string) {
	l.t.Helper()
	layers := overlay.Layers{Lowers: []string{l.dir + "/lower0", l.dir + "/lower1"}, Upper: l.dir + "/upper", Work: l.dir + "/work"}
	l.root = l.dir + "/root"
	l.must(mount.Kernel{}.Apply(mount.Mount{Type: "overlay", Source: "o", Target: l.root, Data: layers.Data() + "," + options}))
	l.t.Cleanup(func() { _ = unix.Unmount(l.root, unix.MNT_DETACH) })
}

func (l *lab) source() *Source {
	return &Source{Mount: "/", Upper: &Layer{Dir: l.dir + "/upper"}, Lowers: []Layer{{Dir: l.dir + "/lower0"}, {Dir: l.dir + "/lower1"}}}
}

func (l *lab) machine() *Machine { return &Machine{Sources: []Source{*l.source()}} }

// put writes a file with the directories that lead to it. Its content is its name where none is given.
func (l *lab) put(name string, content ...string) {
	l.t.Helper()
	text := filepath.Base(name)
	if len(content) > 0 {
		text = content[0]
	}
	name = filepath.Join(l.dir, name)
	l.must(os.MkdirAll(filepath.Dir(name), 0o755))
	l.must(os.WriteFile(name, []byte(text), 0o644))
}

func changeLines(t *testing.T, m *Machine, o Options) []string {
	t.Helper()
	var got []string
	for c, err := range m.Changes(context.Background(), o) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, c.String())
	}
	return got
}

// stages of a case: what the layers hold, and what is done to the merged tree.
type changeCase struct {
	name    string
	options string // of the overlay
	lowers  func(l *lab)
	edit    func(l *lab, root string)
	ask     Options
	want    []string
}

const redirects = "redirect_dir=on,index=off,metacopy=off"

var changeCases = []changeCase{
	{name: "nothing was written", lowers: someFiles, want: nil},
	{name: "files come, change and go", lowers: someFiles, edit: func(l *lab, root string) {
		l.put("root/new/sub/file")
		l.put("root/etc/a", "A")
		l.must(os.Remove(root + "/etc/b"))
		l.must(os.RemoveAll(root + "/usr/share"))
	}, want: []string{"M /etc/a", "D /etc/b", "A /new/", "A /new/sub/", "A /new/sub/file", "D /usr/share/"}},
	{name: "a longer file is modified", lowers: someFiles, edit: func(l *lab, root string) { l.put("root/etc/a", "longer") }, want: []string{"M /etc/a"}},
	{name: "a file written again as it was is no change", lowers: someFiles, edit: func(l *lab, root string) { l.put("root/etc/a", "a") }, want: nil},
	{name: "a file written again as it was is told when asked for", lowers: someFiles, edit: func(l *lab, root string) { l.put("root/etc/a", "a") },
		ask: Options{Same: true}, want: []string{"= /", "= /etc/", "= /etc/a"}},
	{name: "only metadata", lowers: someFiles, edit: func(l *lab, root string) {
		l.must(os.Chmod(root+"/etc/a", 0o600))
		l.must(os.Chown(root+"/etc/b", 1, 2))
		l.must(unix.Chmod(root+"/usr", 0o1777))
		l.must(unix.Setxattr(root+"/bin/c", "trusted.note", []byte("hi"), 0))
	}, want: []string{`m /bin/c  xattr trusted.note "hi" added`, "m /etc/a  mode 0644 -> 0600", "m /etc/b  owner 0:0 -> 1:2", "m /usr/  mode 0755 -> 1777"}},
	{name: "attributes of the base that change and go", lowers: func(l *lab) {
		someFiles(l)
		l.must(unix.Setxattr(l.dir+"/lower0/etc/a", "trusted.note", []byte("hi"), 0))
		l.must(unix.Setxattr(l.dir+"/lower0/etc/b", "trusted.note", []byte("hi"), 0))
	}, edit: func(l *lab, root string) {
		l.must(unix.Setxattr(root+"/etc/a", "trusted.note", []byte("ho"), 0))
		l.must(unix.Removexattr(root+"/etc/b", "trusted.note"))
	}, want: []string{"m /etc/a  xattr trusted.note", `m /etc/b  xattr trusted.note "hi" removed`}},
	{name: "content and metadata", lowers: someFiles, edit: func(l *lab, root string) {
		l.put("root/etc/a", "z")
		l.must(unix.Chmod(root+"/etc/a", 0o4755))
	}, want: []string{"M /etc/a  mode 0644 -> 4755"}},
	{name: "times are no change", lowers: someFiles, edit: func(l *lab, root string) {
		l.must(unix.UtimesNano(root+"/etc/a", []unix.Timespec{{Sec: 1}, {Sec: 2}}))
		l.put("root/etc/x")
		l.must(os.Remove(root + "/etc/x"))
	}, want: nil},
	{name: "types", lowers: someFiles, edit: func(l *lab, root string) {
		l.must(os.Remove(root + "/etc/a"))
		l.put("root/etc/a/inner")
		l.must(os.Remove(root + "/etc/b"))
		l.must(os.Symlink("a", root+"/etc/b"))
		l.must(os.RemoveAll(root + "/usr"))
		l.put("root/usr", "")
	}, want: []string{"T /etc/a/  file -> directory", "A /etc/a/inner", "T /etc/b  file -> link", "T /usr  directory -> file"}},
	{name: "links and devices", lowers: func(l *lab) {
		l.must(os.Symlink("old", l.dir+"/lower0/link"))
		l.must(os.Symlink("kept", l.dir+"/lower0/touched"))
		l.must(unix.Mknod(l.dir+"/lower0/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	}, edit: func(l *lab, root string) {
		l.must(os.Remove(root + "/link"))
		l.must(os.Symlink("new", root+"/link"))
		l.must(os.Lchown(root+"/touched", 3, 3))
		l.must(os.Remove(root + "/null"))
		l.must(unix.Mknod(root+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
		l.must(unix.Mkfifo(root+"/fifo", 0o600))
	}, want: []string{"A /fifo", "M /link  target old -> new", "M /null  device 1:3 -> 1:5", "m /touched  owner 0:0 -> 3:3"}},
	{name: "a directory made anew hides what was there", lowers: someFiles, edit: func(l *lab, root string) {
		l.must(os.RemoveAll(root + "/etc"))
		l.put("root/etc/a", "a")
		l.put("root/etc/n")
	}, want: []string{"D /etc/b", "A /etc/n", "D /etc/sub/"}},
	{name: "what is hidden is listed up to a limit", lowers: func(l *lab) {
		for i := range 50 {
			l.put(fmt.Sprintf("lower0/many/%02d", i))
		}
	}, edit: func(l *lab, root string) {
		l.must(os.RemoveAll(root + "/many"))
		l.put("root/many/49", "other")
	}, ask: Options{Hidden: 2}, want: []string{"D /many/00", "D /many/01", "M /many/49", "D /many/  47 more entries deleted"}},
	{name: "a renamed directory is followed", options: redirects, lowers: someFiles, edit: func(l *lab, root string) {
		l.must(os.Rename(root+"/etc", root+"/etc2"))
		l.put("root/etc2/a", "other")
		l.must(os.Remove(root + "/etc2/sub/d"))
		l.put("root/etc2/sub/e")
	}, want: []string{"D /etc/", "A /etc2/  from /etc", "M /etc2/a", "D /etc2/sub/d", "A /etc2/sub/e"}},
	{name: "a directory moved elsewhere is followed", options: redirects, lowers: someFiles, edit: func(l *lab, root string) {
		l.must(os.Rename(root+"/etc/sub", root+"/usr/moved"))
		l.put("root/usr/moved/d", "other")
		l.must(os.Rename(root+"/usr", root+"/usr2"))
		l.put("root/usr2/moved/more")
	}, want: []string{"D /etc/sub/", "D /usr/", "A /usr2/  from /usr", "A /usr2/moved/  from /etc/sub", "M /usr2/moved/d", "A /usr2/moved/more"}},
	{name: "a directory renamed over another one", options: redirects, lowers: someFiles, edit: func(l *lab, root string) {
		l.must(os.RemoveAll(root + "/usr"))
		l.must(os.Rename(root+"/etc", root+"/usr"))
		l.put("root/usr/a", "other")
	}, want: []string{"D /etc/", "M /usr/  from /etc", "M /usr/a", "D /usr/share/"}},
	{name: "a path below a renamed directory", options: redirects, lowers: someFiles, edit: func(l *lab, root string) {
		l.must(os.Rename(root+"/etc", root+"/etc2"))
		l.put("root/etc2/a", "other")
		l.put("root/etc2/sub/d", "other")
	}, ask: Options{Path: "/etc2/sub"}, want: []string{"M /etc2/sub/d"}},
	{name: "files of which only the metadata was copied up", options: "redirect_dir=on,metacopy=on,index=off", lowers: someFiles, edit: func(l *lab, root string) {
		l.must(os.Chmod(root+"/etc/a", 0o600))
		l.must(os.Rename(root+"/etc/b", root+"/bin/b"))
		l.must(os.Chmod(root+"/bin/b", 0o600))
	}, want: []string{"A /bin/b  from /etc/b", "m /etc/a  mode 0644 -> 0600", "D /etc/b"}},
	{name: "a layer that deletes what is in the base", lowers: func(l *lab) {
		someFiles(l)
		l.must(os.MkdirAll(l.dir+"/lower1/etc", 0o755))
		l.must(unix.Mknod(l.dir+"/lower1/etc/a", unix.S_IFCHR, 0))
		l.put("lower1/usr/only")
		l.must(unix.Setxattr(l.dir+"/lower1/usr", markOpaque, []byte("y"), 0))
	}, edit: func(l *lab, root string) {
		l.put("root/etc/a", "a")
		l.put("root/usr/share/doc/x", "x")
	}, want: []string{"A /etc/a", "A /usr/share/", "A /usr/share/doc/", "A /usr/share/doc/x"}},
	{name: "names that are no text", lowers: func(l *lab) { l.put("lower0/\xff\n", "") }, edit: func(l *lab, root string) {
		l.put("root/\xff\n", "x")
		l.put("root/a b")
		l.put("root/\x1b[31m")
	}, want: []string{`A "/\x1b[31m"`, "A /a b", `M "/\xff\n"`}},
	{name: "one path", lowers: someFiles, edit: func(l *lab, root string) {
		l.put("root/etc/a", "A")
		l.put("root/usr/new")
	}, ask: Options{Path: "/etc"}, want: []string{"M /etc/a"}},
	{name: "one file", lowers: someFiles, edit: func(l *lab, root string) { l.put("root/etc/a", "A") }, ask: Options{Path: "/etc/a"}, want: []string{"M /etc/a"}},
}

func someFiles(l *lab) {
	for _, name := range []string{"etc/a", "etc/b", "etc/sub/d", "usr/share/doc/x"} {
		l.put("lower0/" + name)
	}
	l.put("lower1/bin/c")
}

func TestChangesAreTold(t *testing.T) {
	for _, c := range changeCases {
		t.Run(c.name, func(t *testing.T) {
			if !mounttest.InNamespace(t) {
				return
			}
			l := newLab(t)
			c.lowers(l)
			if c.options == "" {
				c.options = "redirect_dir=off,index=off,metacopy=off"
			}
			l.stack(c.options)
			if c.edit != nil {
				c.edit(l, l.root)
			}
			before := openFiles(t)
			if diff := cmp.Diff(c.want, changeLines(t, l.machine(), c.ask)); diff != "" {
				t.Errorf("Changes (-want +got):\n%s", diff)
			}
			if after := openFiles(t); after != before {
				t.Errorf("%d descriptors are open, %d before", after, before)
			}
		})
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

func TestAWalkMayBeLeftAtEachChange(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	l := newLab(t)
	someFiles(l)
	l.stack(redirects)
	for _, name := range []string{"a/b/c", "a/d", "etc/sub/d", "etc/n", "z"} {
		l.put("root/"+name, "other")
	}
	before := openFiles(t)
	all := len(changeLines(t, l.machine(), Options{}))
	for stop := range all {
		n := 0
		for range l.machine().Changes(context.Background(), Options{}) {
			if n++; n > stop {
				break
			}
		}
		if after := openFiles(t); after != before {
			t.Fatalf("left after change %d: %d descriptors are open, %d before", stop, after, before)
		}
	}
}

func TestContentsCanBeReadWhileAChangeIsAtHand(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	l := newLab(t)
	someFiles(l)
	l.stack("redirect_dir=on,metacopy=on,index=off")
	l.put("root/etc/a", "new a")
	l.must(os.Remove(l.root + "/etc/b"))
	l.must(os.Rename(l.root+"/usr/share/doc/x", l.root+"/x"))
	l.put("root/n")
	want := map[string]string{"/etc/a": "a>new a", "/etc/b": "b>", "/n": ">n", "/usr/share/doc/x": "x>", "/x": ">x"}
	got := map[string]string{}
	for c, err := range l.machine().Changes(context.Background(), Options{}) {
		l.must(err)
		if c.Kind == File {
			old, new, err := readBoth(c, 1<<20)
			l.must(err)
			got[c.Path] = string(old) + ">" + string(new)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("contents (-want +got):\n%s", diff)
	}
}

// A walk that meets the same trees with every file read must come to the same end as the one that reads only the upper.
func TestTheUpperTellsWhatAWalkOverEverythingTells(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	for seed := range 60 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l := newLab(t)
			r := &roller{seed: uint64(seed)*2654435761 + 1}
			r.fill(l, "lower0", 40)
			r.fill(l, "lower1", 10)
			l.stack("redirect_dir=off,index=off,metacopy=off")
			before := snapshotOf(t, l.root)
			r.disturb(l, l.root, 40)
			want := differ(before, snapshotOf(t, l.root))
			var got []string
			for _, line := range changeLines(t, l.machine(), Options{}) {
				word := strings.Fields(line)
				got = append(got, word[0]+" "+strings.TrimSuffix(word[1], "/"))
			}
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Changes (-brute force +got):\n%s", diff)
			}
		})
	}
}

// deep makes n directories within each other, deeper than any path reaches.
func deep(l *lab, dir string, n int) {
	fd, err := unix.Open(filepath.Join(l.dir, dir), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	l.must(err)
	for range n {
		l.must(unix.Mkdirat(fd, "d", 0o755))
		sub, err := unix.Openat(fd, "d", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		l.must(err)
		unix.Close(fd)
		fd = sub
	}
	unix.Close(fd)
}

func TestDirectoriesWithoutEndAreAnErrorAndTheOthersAreTold(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	l := newLab(t)
	deep(l, "upper", maxDepth+10)
	l.put("upper/z")
	var failed []error
	last := ""
	for c, err := range l.machine().Changes(context.Background(), Options{}) {
		if err != nil {
			failed = append(failed, err)
			continue
		}
		last = c.Path
	}
	if len(failed) != 1 || !strings.Contains(failed[0].Error(), "directories deep") || last != "/z" {
		t.Errorf("%d errors (%.200v), the last change is of %.40q", len(failed), failed, last)
	}
	u, err := Use(t.Context(), l.machine().Places("/")[0], 3)
	if err != nil || len(u.Errors) != 1 || u.Files < maxDepth {
		t.Errorf("Use = %d files, %d errors, %v", u.Files, len(u.Errors), err)
	}
}

func TestAHostileUpperLeadsNowhere(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	l := newLab(t)
	someFiles(l)
	l.put("elsewhere/a", "secret")
	l.must(os.Symlink("../elsewhere", l.dir+"/upper/etc"))
	l.must(os.Symlink(l.dir+"/elsewhere", l.dir+"/upper/usr"))
	l.must(os.MkdirAll(l.dir+"/upper/bin", 0o755))
	l.must(unix.Mkfifo(l.dir+"/upper/bin/c", 0o644)) // an open would wait for a writer
	for name, redirect := range map[string]string{"up": "../elsewhere", "far": "/../elsewhere", "through": "/etc/a", "link": "/link/a"} {
		l.must(os.MkdirAll(l.dir+"/upper/"+name, 0o755))
		l.must(unix.Setxattr(l.dir+"/upper/"+name, markRedirect, []byte(redirect), 0))
	}
	l.must(os.Symlink(l.dir+"/elsewhere", l.dir+"/lower0/link"))
	var got []string
	failed := 0
	for c, err := range l.machine().Changes(context.Background(), Options{}) {
		if err != nil {
			failed++
			continue
		}
		got = append(got, c.String())
	}
	want := []string{"T /bin/c  file -> fifo", "T /etc  directory -> link", "A /link/", "A /through/", "T /usr  directory -> link"}
	want[2] = "T /link/  link -> directory"
	if diff := cmp.Diff(want, got); diff != "" || failed != 2 {
		t.Errorf("%d errors, want those of the two redirects that lead out; Changes (-want +got):\n%s", failed, diff)
	}
}
