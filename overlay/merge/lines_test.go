package merge

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func merged(t *testing.T, f Form, o, n, u string) (string, []string) {
	t.Helper()
	got, notes, err := MergeEntries(f, []byte(o), []byte(n), []byte(u), nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(got), notes
}

var fieldEntries = []struct {
	name, form      string
	old, base, user string
	want            string
	notes           []string
}{
	{"both added another user", "passwd",
		"root:x:0:0:root:/root:/bin/sh\nbin:x:2:2::/bin:/n\n",
		"root:x:0:0:root:/root:/bin/sh\nsshd:x:101:65534::/run/sshd:/n\nbin:x:2:2::/bin:/n\n",
		"root:x:0:0:root:/root:/bin/sh\nbin:x:2:2::/bin:/n\nann:x:1000:1000::/home/ann:/bin/sh\n",
		"root:x:0:0:root:/root:/bin/sh\nsshd:x:101:65534::/run/sshd:/n\nbin:x:2:2::/bin:/n\nann:x:1000:1000::/home/ann:/bin/sh\n", nil},
	{"a shell changed here, a home in the base", "passwd",
		"a:x:1:1::/a:/bin/sh\n", "a:x:1:1::/var/a:/bin/sh\n", "a:x:1:1::/a:/bin/zsh\n", "a:x:1:1::/var/a:/bin/zsh\n", nil},
	{"a field that both changed", "passwd",
		"a:x:1:1::/a:/bin/sh\n", "a:x:1:1::/a:/bin/dash\n", "a:x:1:1::/a:/bin/zsh\n", "a:x:1:1::/a:/bin/zsh\n",
		[]string{"a: field 7 differs on both sides: the local one is kept"}},
	{"a user that the base dropped", "passwd", "a:x:1:1:::\nb:x:2:2:::\n", "a:x:1:1:::\n", "a:x:1:1:::\nb:x:2:2:::\nc:x:3:3:::\n", "a:x:1:1:::\nc:x:3:3:::\n", nil},
	{"a changed user that the base dropped", "passwd", "a:x:1:1:::\n", "", "a:x:1:1:me::\n", "a:x:1:1:me::\n", []string{"a: changed, and gone from the base: kept"}},
	{"a user deleted here", "passwd", "a:x:1:1:::\nb:x:2:2:::\n", "a:x:1:1:::\nb:x:2:2:::\nc:x:3:3:::\n", "a:x:1:1:::\n", "a:x:1:1:::\nc:x:3:3:::\n", nil},
	{"a user deleted here and changed there", "passwd", "a:x:1:1:::\n", "a:x:1:1:new::\n", "", "", []string{"a: deleted, and changed in the base: stays deleted"}},
	{"the number of a user changed in the base", "passwd", "a:x:1:1:::\n", "a:x:9:9:::\n", "a:x:1:1::/h:\n", "a:x:1:1::/h:\n",
		[]string{"a: uid is 1 here and 9 in the base: kept, files have it", "a: gid is 1 here and 9 in the base: kept, files have it"}},
	{"one number for two new users", "passwd", "a:x:1:1:::\n", "a:x:1:1:::\nsvc:x:900:900:::\n", "a:x:1:1:::\nann:x:900:900:::\n",
		"a:x:1:1:::\nsvc:x:900:900:::\nann:x:900:900:::\n", []string{"ann: has the number 900, as svc: one was added here, one in the base"}},
	{"a second name for a number, all of it the base's", "passwd", "root:x:0:0:::\n", "root:x:0:0:::\ntoor:x:0:0:::\n", "root:x:0:0:me::\n", "root:x:0:0:me::\ntoor:x:0:0:::\n", nil},
	{"members of a group", "group", "wheel:x:10:a,b\n", "wheel:x:10:b,c\n", "wheel:x:10:a,b,ann\n", "wheel:x:10:b,ann,c\n", nil},
	{"administrators and members", "gshadow", "w:!:a:a\n", "w:!:a,b:a\n", "w:!:a,me:a,me\n", "w:!:a,me,b:a,me\n", nil},
	{"ranges that overlap", "subuid", "", "svc:100000:65536\n", "ann:100100:10\n", "ann:100100:10\nsvc:100000:65536\n",
		[]string{"ann: has the number 100100, as svc: one was added here, one in the base"}},
	{"a password set here, the default changed there", "shadow", "root:*:1:0:99999:7:::\nd:*:1::::::\n", "root:!:2:0:99999:7:::\nd:!:2::::::\n", "root:$y$x:3:0:99999:7:::\nd:*:1::::::\n",
		"root:$y$x:3:0:99999:7:::\nd:!:2::::::\n", []string{"root: field 2 differs on both sides: the local one is kept", "root: field 3 differs on both sides: the local one is kept"}},
	{"comments, NIS and malformed lines stay", "passwd", "a:x:1:1:::\n", "# new\na:x:1:1:::\nb:x:2:2:::\nbad\n", "# mine\n\na:x:1:1:::\nnonsense:\n+nis::::::\n",
		"# mine\n\na:x:1:1:::\nb:x:2:2:::\nnonsense:\n+nis::::::\n", nil},
	{"the end comes before NIS lines", "passwd", "", "b:x:2:2:::\n", "a:x:1:1:::\n+::::::\n", "a:x:1:1:::\nb:x:2:2:::\n+::::::\n", nil},
	{"no newline at the end", "passwd", "", "b:x:2:2:::", "a:x:1:1:::", "a:x:1:1:::\nb:x:2:2:::\n", nil},
	{"no newline, nothing behind it", "passwd", "a:x:1:1:::\nz:x:3:3:::", "a:x:1:1:::\nb:x:2:2:::\nz:x:3:3:::", "a:x:1:1:::\nz:x:3:3::me:", "a:x:1:1:::\nb:x:2:2:::\nz:x:3:3::me:", nil},
	{"CRLF", "passwd", "a:x:1:1:::\r\n", "a:x:1:1:new::\r\nb:x:2:2:::\r\n", "a:x:1:1:::\r\nc:x:3:3:::\r\n", "a:x:1:1:new::\r\nb:x:2:2:::\r\nc:x:3:3:::\r\n", nil},
	{"a key that stands twice", "subuid", "a:1:1\na:5:1\n", "a:1:1\na:9:1\n", "a:1:1\na:5:1\na:7:1\n", "a:1:1\na:9:1\na:7:1\n", nil},
	{"an empty local file", "group", "a:x:1:\n", "a:x:1:\nb:x:2:\n", "", "b:x:2:\n", nil},
	{"nothing known of the old base", "passwd", "", "a:x:1:1:new::\nb:x:2:2:::\n", "a:x:1:1:::\nc:x:3:3:::\n", "a:x:1:1:::\nb:x:2:2:::\nc:x:3:3:::\n",
		[]string{"a: field 5 differs on both sides: the local one is kept"}},
	{"other lines with a key", "", "net.a = 1\nnet.b = 2\n", "net.a = 1\nnet.b = 3\nnet.c = 4\n", "net.a = 7\nnet.b = 2\n", "net.a = 7\nnet.b = 3\nnet.c = 4\n", nil},
	{"shells", "", "/bin/sh\n", "/bin/sh\n/bin/zsh\n", "/bin/sh\n/opt/fish\n", "/bin/sh\n/bin/zsh\n/opt/fish\n", nil},
}

func formOf(name string) Form {
	if f, ok := FormOf(name); ok {
		return f
	}
	return Lines
}

func TestFilesMergedByEntry(t *testing.T) {
	for _, c := range fieldEntries {
		t.Run(c.name, func(t *testing.T) {
			f := formOf(c.form)
			got, notes := merged(t, f, c.old, c.base, c.user)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.notes, notes); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
			if again, _ := merged(t, f, c.old, c.base, got); again != got {
				t.Errorf("merged again: %q, want %q", again, got)
			}
		})
	}
}

func TestANumberChangesWhenNoFileHasIt(t *testing.T) {
	owns := func(id string, group bool) bool { return group }
	got, notes, err := MergeEntries(forms["passwd"], []byte("a:x:1:1:::\n"), []byte("a:x:9:9:::\n"), []byte("a:x:1:1::/h:\n"), owns)
	if err != nil || string(got) != "a:x:9:1::/h:\n" || len(notes) != 1 {
		t.Errorf("MergeEntries = %q, %q, %v", got, notes, err)
	}
}

func TestAFileThatIsTooLongIsNotMergedByEntry(t *testing.T) {
	for _, text := range []string{string(make([]byte, MaxText+1)), string(make([]byte, 0))} {
		_, _, err := MergeEntries(Lines, nil, nil, []byte(text), nil)
		if (err != nil) != (len(text) > MaxText) {
			t.Errorf("MergeEntries of %d bytes: %v", len(text), err)
		}
	}
}

// Whatever the files hold, a second merge changes nothing, and with one side unchanged the other is what comes out.
func FuzzMergeEntries(f *testing.F) {
	for i, c := range fieldEntries {
		f.Add(byte(i), c.old, c.base, c.user)
	}
	names := []string{"passwd", "group", "shadow", "gshadow", "subuid", "subgid", ""}
	f.Fuzz(func(t *testing.T, which byte, o, n, u string) {
		form := formOf(names[int(which)%len(names)])
		got, _, err := MergeEntries(form, []byte(o), []byte(n), []byte(u), nil)
		if err != nil {
			return
		}
		again, _, err := MergeEntries(form, []byte(o), []byte(n), got, nil)
		if err == nil && string(again) != string(got) {
			t.Errorf("merge(%q, %q, %q) = %q, and again %q", o, n, u, got, again)
		}
		if kept, _, err := MergeEntries(form, []byte(o), []byte(o), []byte(u), nil); err == nil && string(kept) != u {
			t.Errorf("a base that did not change made of %q: %q", u, kept)
		}
	})
}
