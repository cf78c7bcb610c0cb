package merge

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
	"veneer/overlay/mount/mounttest"
)

// mergeCase is a change of base under an upper. Scripts run in the directory that they are named after.
type mergeCase struct {
	name   string
	v1, v2 string // v2 begins as a copy of v1
	edit   string // through the overlay on v1
	upper  string // on the upper itself, unmounted
	twoWay bool
	want   string // verdicts
	check  string // through the overlay on v2
}

var mergeCases = []mergeCase{
	{name: "E1 a file that nobody touched comes from the new base",
		v1: `echo 1 >a; echo gone >b`, v2: `echo 2 >a; rm b; echo 3 >c`,
		check: `test "$(cat a)" = 2; test ! -e b; test "$(cat c)" = 3`},
	{name: "E1 a file that was copied up and changed back comes from the new base",
		v1: `echo 1 >a; echo 1 >b; chmod 640 b; echo 1 >c`, v2: `echo 2 >a; rm b`, edit: `echo x >a; echo 1 >a; touch b; touch c`,
		want: "a took-new\nb pruned\nc pruned\n", check: `test "$(cat a)" = 2; test ! -e b; test "$(cat c)" = 1`},
	{name: "E2 a local edit is kept where the base is as it was",
		v1: `echo 1 >a; ln -s x l; echo 1 >m`, edit: `echo 9 >a; ln -sf y l; chmod 600 m`,
		want: "a kept-local\nl kept-local\nm kept-local\n", check: `test "$(cat a)" = 9; test "$(readlink l)" = y; test "$(stat -c %a m)" = 600`},
	{name: "E2 both changed a file: local wins, the other side beside it",
		v1: `echo 1 >a`, v2: `echo 2 >a; chmod 640 a`, edit: `echo 9 >a`,
		want: "a conflict > a.new\n", check: `test "$(cat a)" = 9; test "$(cat a.new)" = 2; test "$(stat -c %a a.new)" = 640`},
	{name: "E3 an edit that is equal to the new default is pruned",
		v1: `echo 1 >a`, v2: `echo 2 >a`, edit: `echo 2 >a`, want: "a pruned\n", check: `test "$(cat a)" = 2`},
	{name: "E4 what was added is kept, in a directory that the base dropped too",
		v1: `mkdir -p d/e; echo 1 >d/e/base`, v2: `rm -r d`, edit: `echo 9 >d/e/mine; ln -s mine d/e/l; mkdir new; echo 8 >new/f`,
		want:  "d/e/l kept-local\nd/e/mine kept-local\nd/e kept-local\nd kept-local\nnew/f kept-local\nnew kept-local\n",
		check: `test "$(cat d/e/mine)" = 9; test ! -e d/e/base; test "$(cat new/f)" = 8`},
	{name: "E5 a deleted file stays deleted",
		v1: `echo 1 >a`, v2: `echo 1 >b`, edit: `rm a`, want: "a deleted-local\n", check: `test ! -e a; test -e b`},
	{name: "E5 a deleted directory stays deleted, with what the base adds to it",
		v1: `mkdir d; echo 1 >d/a`, v2: `echo 2 >d/b`, edit: `rm -r d`, want: "d deleted-local\n", check: `test ! -e d`},
	{name: "a deleted file that the base changed",
		v1: `echo 1 >a`, v2: `echo 2 >a`, edit: `rm a`, want: "a conflict > a.new\n", check: `test ! -e a; test "$(cat a.new)" = 2`},
	{name: "a deleted file that is gone from the base",
		v1: `echo 1 >a`, v2: `rm a`, edit: `rm a`, want: "a pruned\n", check: `test ! -e a`},
	{name: "E6 a file that was changed becomes a directory in the base",
		v1: `echo 1 >a`, v2: `rm a; mkdir a; echo 2 >a/b; ln -s b a/c`, edit: `echo 9 >a`,
		want: "a type-clash > a.new\n", check: `test "$(cat a)" = 9; test "$(cat a.new/b)" = 2; test "$(readlink a.new/c)" = b`},
	{name: "E6 a file that nobody changed becomes a directory in the base",
		v1: `echo 1 >a`, v2: `rm a; mkdir a; echo 2 >a/b`, edit: `touch a`, want: "a took-new\n", check: `test "$(cat a/b)" = 2`},
	{name: "E7 a directory that both made is merged name by name",
		v1: `echo 1 >x`, v2: `mkdir d; echo 2 >d/base; echo 2 >d/both; echo 2 >d/same`, edit: `mkdir d; echo 9 >d/mine; echo 9 >d/both; echo 2 >d/same`,
		want:  "d/both conflict > d/both.new\nd/mine kept-local\nd/same pruned\n",
		check: `test "$(cat d/base)" = 2; test "$(cat d/mine)" = 9; test "$(cat d/both)" = 9; test "$(cat d/both.new)" = 2; test "$(cat d/same)" = 2`},
	{name: "E7 and so it is where the kernel has marked the local one as opaque",
		v1: `echo 1 >x`, v2: `mkdir d; echo 2 >d/base; mkdir d/sub; echo 2 >d/sub/base`, edit: `mkdir -p d/sub; echo 9 >d/mine; echo 9 >d/sub/mine`, upper: `setfattr -n trusted.overlay.opaque -v y d`,
		want: "d/mine kept-local\nd/sub/mine kept-local\n", check: `test "$(cat d/base)" = 2; test "$(cat d/mine)" = 9; test "$(cat d/sub/base)$(cat d/sub/mine)" = 29`},
	{name: "E8 a directory with local files, and a file in the base",
		v1: `mkdir d; echo 1 >d/a; echo 1 >d/b`, v2: `rm -r d; echo 2 >d`, edit: `echo 9 >d/a; touch d/b`,
		want: "d/a kept-local\nd/b pruned\nd type-clash > d.new\n", check: `test "$(cat d/a)" = 9; test ! -e d/b; test "$(cat d.new)" = 2`},
	{name: "E8 a directory without local files, and a file in the base",
		v1: `mkdir d; echo 1 >d/a`, v2: `rm -r d; echo 2 >d`, edit: `touch d/a`, want: "d/a pruned\nd took-new\n", check: `test "$(cat d)" = 2`},
	{name: "E8 a local directory where the base has a new file",
		v1: `echo 1 >x`, v2: `echo 2 >d`, edit: `mkdir d; echo 9 >d/a`, want: "d/a kept-local\nd type-clash > d.new\n", check: `test "$(cat d/a)" = 9; test "$(cat d.new)" = 2`},
	{name: "E9 a file that became a link, or a directory, here",
		v1: `echo 1 >a; echo 1 >b; echo 1 >c`, v2: `echo 2 >c`, edit: `ln -sf /nowhere a; rm b; mkdir b; echo 9 >b/x; ln -sf z c`,
		want:  "a kept-local\nb/x kept-local\nb kept-local\nc type-clash > c.new\n",
		check: `test "$(readlink a)" = /nowhere; test "$(cat b/x)" = 9; test "$(readlink c)" = z; test "$(cat c.new)" = 2`},
	{name: "E9 a directory that became a link here",
		v1: `mkdir d; echo 1 >d/a`, v2: `echo 2 >d/a`, edit: `rm -r d; ln -s /srv d`, want: "d kept-local\n", check: `test "$(readlink d)" = /srv`},
	{name: "E10 links are compared and copied as links",
		v1: `ln -s /etc/passwd l; ln -s gone m`, v2: `ln -sf /etc/shadow l; ln -sf new m`, edit: `ln -sf /dev/null l; chown -h 7 m; ln -sf gone m`,
		want: "l conflict > l.new\nm took-new\n", check: `test "$(readlink l)" = /dev/null; test "$(readlink l.new)" = /etc/shadow; test "$(readlink m)" = new`},
	{name: "E11 devices, fifos and sockets are kept",
		v1: `echo 1 >x; mknod n c 1 3`, v2: `echo 2 >x; rm n; mknod n c 1 5`, edit: `mkfifo p; mknod d c 1 3; mknod b b 7 0; chmod 600 n; perl -MSocket -e 'socket(S,AF_UNIX,SOCK_STREAM,0) and bind(S,sockaddr_un("s")) or die'`,
		want: "b kept-local\nd kept-local\nn merged\np kept-local\ns kept-local\n", check: `test -p p; test -c d; test -b b; test -S s; test "$(stat -c %t:%T:%a n)" = 1:5:600`},
	{name: "E12 attributes count: a change of one alone is kept, and merged with new content",
		v1: `echo 1 >a; echo 1 >b; echo 1 >c`, v2: `echo 2 >b; setfattr -n user.x -v base c`, edit: `setfattr -n user.x -v 9 a; setfattr -n trusted.x -v 9 b; setfattr -n user.x -v 9 c`,
		want:  "a kept-local\nb merged\nc conflict > c.new\n",
		check: `getfattr -n user.x a | grep -q '"9"'; test "$(cat b)" = 2; getfattr -n trusted.x b | grep -q '"9"'; getfattr -n user.x c.new | grep -q base`},
	{name: "E12 file capabilities and suid survive, on either side",
		v1: `cp /bin/true a; cp /bin/true b; echo 1 >c`, v2: `setcap cap_net_raw+ep a; chmod 4755 c`, edit: `chmod 700 a; setcap cap_net_raw+ep b; echo 9 >c`,
		want: "a merged\nb kept-local\nc merged\n", check: `getcap a | grep -q cap_net_raw; test "$(stat -c %a a)" = 700; getcap b | grep -q cap_net_raw; test "$(stat -c %a c)$(cat c)" = 47559`},
	{name: "E13 a time alone is no change",
		v1: `echo 1 >a`, v2: `touch -d 2001-01-01 a`, edit: `touch -d 2002-02-02 a`, want: "a pruned\n"},
	{name: "E14 a deleted name under a changed one: the order does not matter",
		v1: `mkdir d; echo 1 >d/a; echo 1 >d/b`, v2: `echo 2 >d/a; echo 2 >d/b`, edit: `rm d/a; echo 9 >d/b; echo 9 >d/c`,
		want: "d/a conflict > d/a.new\nd/b conflict > d/b.new\nd/c kept-local\n"},
	{name: "E15 without an index of the old base", twoWay: true,
		v1: `echo 1 >a; echo 1 >b; echo 1 >c; mkdir d; echo 1 >d/x; mkdir f`, v2: `echo 2 >a; echo 2 >b; rm c; echo 2 >d/y; rm -r f; echo 2 >f`,
		edit:  `touch a; echo 2 >b; touch c; rm -r d; mkdir d; echo 9 >d/mine; echo 9 >f/x; rm -f e`,
		want:  "a conflict > a.new\nb pruned\nc kept-local\nd kept-local\nf/x kept-local\nf type-clash > f.new\n",
		check: `test "$(cat a)" = 1; test "$(cat a.new)" = 2; test ! -e d/y; test "$(cat d/mine)" = 9`},
	{name: "content from the base, mode from here",
		v1: `echo 1 >a; echo 1 >b`, v2: `echo 2 >a; chmod 640 b`, edit: `chmod 600 a; chown 5:6 a; echo 9 >b`,
		want: "a merged\nb merged\n", check: `test "$(stat -c %a:%u:%g a)$(cat a)" = 600:5:62; test "$(stat -c %a b)$(cat b)" = 6409`},
	{name: "the mode of a directory that was frozen by a copy-up",
		v1: `mkdir d e f; echo 1 >d/a; echo 1 >e/a; echo 1 >f/a`, v2: `chmod 750 d; chown 3:4 d; chmod 711 e; chmod 711 f; setfattr -n user.x -v y d`, edit: `echo 9 >d/a; chmod 700 e; echo 9 >f/a; chown 9 f`,
		want:  "d/a kept-local\nd took-new\ne conflict\nf/a kept-local\nf merged\n",
		check: `test "$(stat -c %a:%u:%g d)" = 750:3:4; getfattr -n user.x d >/dev/null; test "$(stat -c %a e)" = 700; test "$(stat -c %a:%u f)" = 711:9`},
	{name: "a directory that was copied up and dropped by the base",
		v1: `mkdir -p d/e; echo 1 >d/e/a; echo 1 >d/e/b`, v2: `rm -r d`, edit: `touch d/e/a; rm d/e/b; touch d`,
		want: "d/e/a pruned\nd/e/b pruned\nd/e pruned\nd pruned\n", check: `test ! -e d`},
	{name: "rm -r and mkdir of a directory of the base: what it adds appears, what was deleted does not come back",
		v1: `mkdir -p d/sub; echo 1 >d/a; echo 1 >d/b; echo 1 >d/sub/x`, v2: `echo 2 >d/b; echo 2 >d/new; mkdir d/ns; echo 2 >d/ns/f; echo 2 >d/sub/y`, edit: `rm -r d; mkdir d; echo 9 >d/mine`,
		want:  "d/a deleted-local\nd/b conflict > d/b.new\nd/mine kept-local\nd/sub deleted-local\n",
		check: `test ! -e d/a; test ! -e d/b; test "$(cat d/b.new)" = 2; test "$(cat d/new)" = 2; test "$(cat d/ns/f)" = 2; test ! -e d/sub; test "$(ls -A d | wc -l)" = 4`},
	{name: "rm -r and mkdir, two levels of it",
		v1: `mkdir -p d/sub; echo 1 >d/sub/x; echo 1 >d/sub/y`, v2: `echo 2 >d/sub/z; echo 2 >d/n`, edit: `rm -r d; mkdir -p d/sub; echo 1 >d/sub/x`,
		want: "d/sub/x pruned\nd/sub/y deleted-local\n", check: `test "$(cat d/sub/x)" = 1; test ! -e d/sub/y; test "$(cat d/sub/z)" = 2; test "$(cat d/n)" = 2`},
	{name: "a file in the place of a directory, and a directory in the place of a file, in the base and here",
		v1: `echo 1 >a`, v2: `rm a; mkdir a; echo 2 >a/base`, edit: `rm a; mkdir a; echo 9 >a/mine`,
		want: "a/mine kept-local\n", check: `test "$(cat a/base)" = 2; test "$(cat a/mine)" = 9`},
	{name: "hard links",
		v1: `echo 1 >a; ln a b`, v2: `echo 2 >c`, edit: `echo 9 >x; ln x y; echo 9 >c; ln c e`, want: "c conflict > c.new\ne kept-local\nx kept-local\ny kept-local\n",
		check: `test x -ef y; test "$(cat a)$(cat b)" = 11`},
	{name: "names of 255 bytes, and names that are no UTF-8",
		v1: `n=$(printf %0255d 1); echo 1 >$n; echo 1 >"$(printf '\351\n x')"`, v2: `n=$(printf %0255d 1); echo 2 >$n; echo 2 >"$(printf '\351\n x')"`,
		edit:  `n=$(printf %0255d 1); echo 9 >$n; echo 9 >"$(printf '\351\n x')"`,
		want:  strings.Repeat("0", 254) + "1 conflict > " + strings.Repeat("0", 242) + "~100e0735.new\n" + `\xe9\x0a\x20x conflict > \xe9\x0a\x20x.new` + "\n",
		check: `test "$(cat 0*~*.new)" = 2; test "$(cat "$(printf '\351\n x')".new)" = 2`},
	{name: "NAME.new is taken",
		v1: `echo 1 >a; echo 1 >b; echo base >b.new`, v2: `echo 2 >a; echo 2 >b`, edit: `echo 9 >a; echo mine >a.new; echo 9 >b`,
		want: "a conflict > a.new2\na.new kept-local\nb conflict > b.new2\n", check: `test "$(cat a.new)" = mine; test "$(cat a.new2)" = 2; test "$(cat b.new)" = base; test "$(cat b.new2)" = 2`},
	{name: "immutable files are left as they are",
		v1: `echo 1 >a; mkdir d; echo 1 >d/a; echo 1 >b`, v2: `echo 2 >a; echo 2 >d/a; echo 2 >b`, edit: `touch a; touch d/a; echo 9 >b`, upper: `chattr +i a b; chattr +i d`,
		want: "a kept-local\nb conflict > b.new\nd/a kept-local\n", check: `test "$(cat a)$(cat b)$(cat d/a)$(cat b.new)" = 1912`},
	{name: "users and groups by entry",
		v1:   `echo root:x:0:0:root:/root:/bin/sh >passwd; echo 'wheel:x:10:root' >group; echo k=1 >x.lines`,
		v2:   `echo svc:x:90:90::/:/n >>passwd; echo 'wheel:x:10:root,svc' >group; chmod 640 group; echo j=2 >>x.lines; echo k=1 >y.lines`,
		edit: `echo ann:x:1000:1000::/home/ann:/bin/sh >>passwd; echo 'wheel:x:10:root,ann' >group; echo k=9 >x.lines; echo k=2 >y.lines`,
		want: "group merged\npasswd merged\nx.lines merged\ny.lines conflict\n",
		check: `test "$(cut -d: -f1 passwd | tr '\n' ' ')" = "root svc ann "; test "$(cat group)" = "wheel:x:10:root,ann,svc"; test "$(stat -c %a group)" = 640
			test "$(cat x.lines | tr '\n' ' ')" = "k=9 j=2 "; test "$(cat y.lines)" = k=2; test ! -e passwd.new`},
	{name: "users by entry, and the same on both sides",
		v1: `echo root:x:0:0:root:/root:/bin/sh >passwd`, v2: `echo svc:x:90:90::/:/n >>passwd`, edit: `echo svc:x:90:90::/:/n >>passwd; echo >>passwd; sed -i '$d' passwd`,
		want: "passwd pruned\n"},
	{name: "sockets of another size, sparse and large files",
		v1: `truncate -s 8M a; echo 1 >b`, v2: `truncate -s 8M b`, edit: `echo x >>a; echo 9 >b`, want: "a kept-local\nb conflict > b.new\n",
		check: `test "$(stat -c %s b.new)" = 8388608; test "$(stat -c %b b.new)" -lt 100`},
	{name: "what is too large is not laid beside",
		v1: `echo 1 >a`, v2: `head -c 17M /dev/zero >a`, edit: `echo 9 >a`, want: "a conflict\n", check: `test ! -e a.new`},
	{name: "the directory itself",
		v1: `chmod 755 .`, v2: `chmod 711 .; echo 1 >a`, edit: `echo 9 >b`, want: "b kept-local\n. took-new\n", check: `test "$(stat -c %a .)" = 711`},
}

func TestMergeOnARealOverlay(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	stops := 0
	for _, c := range mergeCases {
		t.Run(c.name, func(t *testing.T) { stops += testMerge(t, c) })
	}
	t.Logf("%d cases, stopped before each of %d changes", len(mergeCases), stops)
}

func testMerge(t *testing.T, c mergeCase) (stops int) {
	w := newWorld(t)
	w.sh("v1", "umask 022; "+c.v1)
	must(t, os.Remove(w.path("v2")))
	w.sh(".", "cp -a v1 v2")
	w.sh("v2", "umask 022; "+c.v2)
	w.sh("v2", "umask 022; chmod u+rwx .")
	w.sh(".", "cp -p --attributes-only /dev/null none/.x 2>/dev/null || true; chmod --reference v1 fs")
	w.with([]string{"v1"}, "umask 022; "+c.edit)
	w.sh("fs", c.upper)
	var old *Index
	if !c.twoWay {
		old = w.index("v1")
		before := Spec{Path: "/etc", Lowers: w.paths([]string{"v1"}), Entries: []string{"*.lines"}}
		must(t, os.Remove(w.path("old")))
		must(t, before.SaveEntries(w.path("old")))
	}
	w.sh(".", "cp -a fs saved")
	s := w.spec(old, "v2")
	report, err := Run(t.Context(), s)
	must(t, err)
	if diff := cmp.Diff(c.want, verdicts(report)); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s\n%s", diff, report.Encode())
	}
	want := dump(t, w.path("fs"))
	w.with([]string{"v2"}, c.check)
	must(t, forget(w.path("stamp")))
	if names, _ := os.ReadDir(w.path("stamp")); len(names) > 0 {
		t.Errorf("left in the scratch directory: %v", names)
	}

	// The same base again: everything is as it should be, and nothing is lost.
	if !c.twoWay {
		again := w.spec(w.index("v2"), "v2")
		again.From = "v2"
		if _, err := Run(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		must(t, forget(w.path("stamp")))
		if diff := cmp.Diff(want, dump(t, w.path("fs"))); diff != "" {
			t.Errorf("merged again (-want +got):\n%s", diff)
		}
	}
	if strings.Contains(c.upper, "chattr") { // cp does not copy the flags
		return 0
	}
	for k := 1; ; k++ {
		w.sh(".", "rm -rf fs && cp -a saved fs")
		cut, err := stopped(s, k)
		must(t, err)
		if !cut {
			return k - 1
		}
		got, err := Run(t.Context(), s)
		must(t, err)
		if diff := cmp.Diff(string(report.Encode()), string(got.Encode())); diff != "" {
			t.Fatalf("stopped before change %d: report (-undisturbed +got):\n%s", k, diff)
		}
		if diff := cmp.Diff(want, dump(t, w.path("fs"))); diff != "" {
			t.Fatalf("stopped before change %d: tree (-undisturbed +got):\n%s", k, diff)
		}
		must(t, forget(w.path("stamp")))
	}
}

// forget removes the plan of a merge as the keeper does, after the upper's stamp says that it belongs to the new base, or when it was mounted on
// the old one after all.
func forget(scratch string) error {
	fd, err := entry.OpenRoot(scratch)
	if err != nil {
		return missing(err)
	}
	defer unix.Close(fd)
	return errors.Join(entry.Remove(fd, planName), entry.Remove(fd, planTemp), entry.Remove(fd, making))
}
