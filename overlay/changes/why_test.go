package changes

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"veneer/overlay/mount/mounttest"
)

// usualDevice is the usual device on plain directories: a volatile root, /etc merged, /var kept, /srv an overlay that is kept, and one
// file bound; /proc is foreign, /opt masked.
func usualDevice(l *lab) *Machine {
	put := func(names ...string) {
		for _, n := range names {
			l.put(n)
		}
	}
	put("base/etc/hostname", "base/etc/motd", "base/etc/shadow", "base/usr/bin/sh", "base/var/lib/seeded", "base/var/lib/gone", "base/opt/x", "base/key")
	put("tools/usr/bin/veneer", "tools/etc/motd")
	put("upper/home/u/notes", "upper/etc/hidden-by-the-rule", "state/etc/1/fs/hostname", "state/data/var/lib/seeded", "state/data/var/log/syslog", "state/merge/srv/fs/site", "state/data/key")
	l.must(os.WriteFile(l.dir+"/state/etc/1/fs/hostname", []byte("mine"), 0))
	l.must(os.Chmod(l.dir+"/state/etc/1/fs/hostname", 0o600))
	l.must(os.WriteFile(l.dir+"/state/data/key", []byte("other"), 0o644))
	l.must(unix.Mknod(l.dir+"/state/etc/1/fs/motd", unix.S_IFCHR, 0))
	l.must(unix.Mknod(l.dir+"/upper/usr", unix.S_IFCHR, 0))
	l.must(os.Remove(l.dir + "/upper/usr"))
	l.must(os.Symlink("usr/bin", l.dir+"/base/bin"))
	l.must(os.Symlink("../etc/hostname", l.dir+"/base/usr/name"))
	l.must(os.Symlink("loop", l.dir+"/base/loop"))
	l.must(os.MkdirAll(l.dir+"/upper/new", 0o755))
	l.must(unix.Setxattr(l.dir+"/upper/home", markOpaque, []byte("y"), 0))
	l.put("base/home/old/file")
	image := func(role, name, id, dir string) Layer {
		return Layer{Role: role, Name: name, ID: strings.Repeat(id, 64), Dir: filepath.Join(l.dir, role, dir), Verified: true}
	}
	both := func(dir string) []Layer {
		return []Layer{image("tools", "tools", "a", dir), image("base", "debian", "b", dir)}
	}
	written := func(role, name, dir string) *Layer {
		return &Layer{Role: role, Name: name, Dir: filepath.Join(l.dir, dir)}
	}
	return &Machine{
		Sources: []Source{
			{Mount: "/", Upper: written(RoleUpper, "/", "upper"), Lowers: both(""), Rule: Rule{Volatile: true}},
			{Mount: "/etc", Upper: written(RoleUpper, "/etc", "state/etc/1/fs"), Lowers: both("etc"), Rule: Rule{Action: "merge", Origin: "default"}},
			{Mount: "/var", Upper: written(RoleData, "/var", "state/data/var"), Lowers: both("var"), Bind: true, Rule: Rule{Action: "persist", Origin: "base"}},
			{Mount: "/srv", Upper: written(RoleUpper, "/srv", "state/merge/srv/fs"), Rule: Rule{Action: "persist", Origin: "site"}},
			{Mount: "/key", Upper: written(RoleData, "/key", "state/data/key"), Lowers: []Layer{image("base", "debian", "b", "key")}, Bind: true, Rule: Rule{Action: "persist", Origin: "site"}},
		},
		Foreign: []Foreign{{"/proc", "a mount of its own (proc)"}, {"/opt", "hidden by a mask rule of the base"}},
	}
}

func TestWhyAnswersForEachPlace(t *testing.T) {
	if *update {
		t.Setenv(updateEnv, "1") // the test runs in another process
	}
	if !mounttest.InNamespace(t) {
		return
	}
	l := newLab(t)
	m := usualDevice(l)
	for name, p := range map[string]string{
		"image": "/usr/bin/veneer", "through-links": "/bin/sh", "upper": "/home/u/notes", "merged": "/etc/hostname", "whiteout": "/etc/motd", "unchanged": "/etc/shadow",
		"below-a-mount": "/etc/hidden-by-the-rule", "data": "/var/log/syslog", "seeded": "/var/lib/seeded", "seed-gone": "/var/lib/gone", "nothing": "/no/such", "opaque": "/home/old/file",
		"link": "/usr/name", "foreign": "/proc/1", "masked": "/opt/x", "directory": "/etc", "root": "/", "bound-file": "/key", "loop": "/loop", "below-a-file": "/usr/bin/sh/x", "kept-overlay": "/srv/site",
	} {
		t.Run(name, func(t *testing.T) {
			before := openFiles(t)
			a, err := m.Why(p)
			if err != nil {
				t.Fatal(err)
			}
			if after := openFiles(t); after != before {
				t.Errorf("%d descriptors are open, %d before", after, before)
			}
			golden(t, "why-"+name+".txt", a.Text())
			text, err := json.MarshalIndent(a, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			if name == "merged" || name == "whiteout" {
				golden(t, "why-"+name+".json", strings.ReplaceAll(string(text), l.dir, "DIR")+"\n")
			}
		})
	}
}

func TestWhyFollowsRenames(t *testing.T) {
	if *update {
		t.Setenv(updateEnv, "1")
	}
	if !mounttest.InNamespace(t) {
		return
	}
	l := newLab(t)
	someFiles(l)
	l.stack("redirect_dir=on,metacopy=on,index=off")
	l.must(os.Rename(l.root+"/etc", l.root+"/etc2"))
	l.put("root/etc2/b", "other")
	l.must(os.Chmod(l.root+"/bin/c", 0o600))
	m := l.machine()
	s := &m.Sources[0]
	s.Rule.Volatile = true
	s.Upper.Role, s.Upper.Name = RoleUpper, "/"
	s.Lowers[0].Role, s.Lowers[0].Name, s.Lowers[1].Role, s.Lowers[1].Name = "base", "debian", "layer", "extra"
	var b strings.Builder
	for _, p := range []string{"/etc2", "/etc2/a", "/etc2/b", "/etc/a", "/bin/c"} {
		a, err := m.Why(p)
		l.must(err)
		b.WriteString(a.Text() + "\n")
	}
	golden(t, "why-renamed.txt", b.String())
}

func TestWhyEndsWhereLinksGoRoundAndRound(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	l := newLab(t)
	if _, err := usualDevice(l).Why("/loop/x"); err == nil || !strings.Contains(err.Error(), "too many levels") {
		t.Errorf("Why(/loop/x) = %v, want ELOOP", err)
	}
}

func TestAVolatileStateIsSaidToBeOne(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	l := newLab(t)
	m := usualDevice(l)
	m.Sources[1].Rule.Volatile, m.Sources[1].Rule.Why = true, "no device answered"
	a, err := m.Why("/etc/hostname")
	if err != nil || a.Survives.Reboot.How != "no: the state is ephemeral (no device answered)" {
		t.Errorf("Why = %+v, %v", a.Survives, err)
	}
}

func TestTheWholeMachineIsOneList(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	l := newLab(t)
	m := usualDevice(l)
	want := []string{
		"M /etc/hostname  mode 0644 -> 0600", "D /etc/motd",
		"A /home/u/", "A /home/u/notes", "D /home/old/",
		"M /key", "A /new/", "A /srv/", "A /srv/site",
		"D /var/lib/gone", "A /var/log/", "A /var/log/syslog",
		"# /proc  a mount of its own (proc)", "# /opt  hidden by a mask rule of the base",
	}
	// Paths come in order, and o comes before u.
	want[2], want[3], want[4] = want[4], want[2], want[3]
	if diff := cmp.Diff(want, changeLines(t, m, Options{})); diff != "" {
		t.Errorf("Changes (-want +got):\n%s", diff)
	}
	for p, want := range map[string][]string{
		"/var":         {"D /var/lib/gone", "A /var/log/", "A /var/log/syslog"},
		"/var/log":     {"A /var/log/", "A /var/log/syslog"},
		"/key":         {"M /key"},
		"/home/u":      {"A /home/u/", "A /home/u/notes"},
		"/usr":         nil,
		"/opt/x":       {"# /opt  hidden by a mask rule of the base"},
		"/etc/shadow":  nil,
		"/srv/site":    {"A /srv/site"},
		"/var/lib/new": nil,
	} {
		var got []string
		var failed error
		for c, err := range m.Changes(t.Context(), Options{Path: p}) {
			if failed = err; err == nil {
				got = append(got, c.String())
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Changes of %s (-want +got):\n%s", p, diff)
		}
		if (failed != nil) != (p == "/var/lib/new") {
			t.Errorf("Changes of %s: %v", p, failed)
		}
	}
}

func TestASnapshotIsComparedWithWhatIsNow(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	l := newLab(t)
	someFiles(l)
	for _, side := range []string{"old", "new"} {
		l.put(side + "/etc/same")
		l.put(side+"/etc/differs", side)
	}
	l.put("old/etc/gone")
	l.put("old/etc/a", "A")
	l.put("new/etc/came/x")
	l.must(os.MkdirAll(l.dir+"/old/usr", 0o755))
	l.must(unix.Mknod(l.dir+"/old/usr/share", unix.S_IFCHR, 0)) // deleted then, and had back since
	s := *l.source()
	s.Upper, s.Old = &Layer{Dir: l.dir + "/new"}, &Layer{Dir: l.dir + "/old"}
	want := []string{"M /etc/a", "A /etc/came/", "A /etc/came/x", "M /etc/differs", "D /etc/gone", "A /usr/share/"}
	if diff := cmp.Diff(want, changeLines(t, &Machine{Sources: []Source{s}}, Options{})); diff != "" {
		t.Errorf("Changes (-want +got):\n%s", diff)
	}
}

func TestUsageCountsEachFileOnce(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	l := newLab(t)
	big := strings.Repeat("x", 1<<20)
	l.put("upper/var/big", big)
	l.must(os.Link(l.dir+"/upper/var/big", l.dir+"/upper/var/again"))
	l.put("upper/srv/half", big[:1<<19])
	l.put("upper/srv/small", "s")
	l.must(os.Symlink("/etc", l.dir+"/upper/link"))
	l.put("elsewhere/huge", big+big+big)
	l.must(os.Symlink(l.dir+"/elsewhere", l.dir+"/upper/out"))
	m := l.machine()
	u, err := Use(t.Context(), m.Places("/")[0], 4)
	l.must(err)
	var got []string
	for _, c := range u.Top {
		got = append(got, c.Path)
	}
	// Of equal sizes the first by name stands first.
	if diff := cmp.Diff([]string{"/var", "/var/again", "/srv", "/srv/half"}, got); diff != "" {
		t.Errorf("the biggest (-want +got):\n%s", diff)
	}
	if want := int64(1<<20 + 1<<19); u.Bytes < want || u.Bytes > want+1<<16 || u.Files != 9 {
		t.Errorf("Use = %d bytes in %d files, want about %d in 9", u.Bytes, u.Files, want)
	}
	for p, want := range map[string]int64{"/srv": 1<<19 + 4096, "/srv/half": 1 << 19, "/none": 0, "/out": 0, "/out/huge": 0} {
		places := m.Places(p)
		if len(places) != 1 {
			t.Fatalf("Places(%s) = %v", p, places)
		}
		if u, err := Use(t.Context(), places[0], 1); err != nil || u.Bytes != want {
			t.Errorf("Use(%s) = %d, %v, want %d", p, u.Bytes, err, want)
		}
	}
	if got := len(usualDevice(newLab(t)).Places("/")); got != 5 {
		t.Errorf("%d places on the whole machine, want 5", got)
	}
}
