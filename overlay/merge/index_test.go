package merge

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
)

func sample() []Entry {
	return []Entry{
		{Path: "b", Mode: unix.S_IFREG | 0o4755, UID: 1, GID: 2, Size: 3, SHA256: [32]byte{1, 2}, Xattrs: [32]byte{9}},
		{Path: "a.c", Mode: unix.S_IFREG | 0o644},
		{Path: ".", Mode: unix.S_IFDIR | 0o755},
		{Path: "-x", Mode: unix.S_IFLNK | 0o777, Target: "../a b"},
		{Path: "a/b", Mode: unix.S_IFCHR | 0o600, Major: 1, Minor: 3},
		{Path: "a", Mode: unix.S_IFDIR | 0o1777},
		{Path: "a/\xff \\\n", Mode: unix.S_IFIFO | 0o600},
		{Path: "é", Mode: unix.S_IFSOCK | 0o600},
		{Path: "dev", Mode: unix.S_IFBLK | 0o600, Major: 8},
	}
}

func indexOf(t testing.TB, entries []Entry) []byte {
	t.Helper()
	b := &Builder{}
	for _, e := range entries {
		must(t, b.Add(e))
	}
	var text bytes.Buffer
	must(t, b.Write(&text))
	return text.Bytes()
}

func TestTheFormOfAnIndex(t *testing.T) {
	got := indexOf(t, sample())
	want, err := os.ReadFile("testdata/sample.index")
	if *update {
		err = os.WriteFile("testdata/sample.index", got, 0o644)
		want = got
	}
	must(t, err)
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("index (-golden +got):\n%s", diff)
	}
	file := filepath.Join(t.TempDir(), "index")
	must(t, os.WriteFile(file, got, 0o644))
	x, err := OpenIndex(file)
	must(t, err)
	defer x.Close()
	for _, want := range sample() {
		e, ok, err := x.Lookup(want.Path)
		if diff := cmp.Diff(want, e); err != nil || !ok || diff != "" {
			t.Errorf("Lookup(%q) = %v, %v (-want +got):\n%s", want.Path, ok, err, diff)
		}
	}
	for _, path := range []string{"", "0", "a/", "a/a", "a/b/c", "zzz", "é/x"} {
		if _, ok, err := x.Lookup(path); ok || err != nil {
			t.Errorf("Lookup(%q) = %v, %v, want nothing", path, ok, err)
		}
	}
}

func TestALargeIndexIsReadInParts(t *testing.T) {
	var entries []Entry
	for i := range 5000 {
		entries = append(entries, Entry{Path: fmt.Sprintf("%s/d%d/f%d", strings.Repeat("x", i%200), i%7, i)[btoi(i%200 == 0):], Mode: unix.S_IFREG | 0o644})
	}
	long := strings.Repeat("\xff", 250)
	entries = append(entries, Entry{Path: "l/" + long, Mode: unix.S_IFLNK | 0o777, Target: strings.Repeat("\x01", 4000)})
	text := indexOf(t, entries)
	r := &counter{r: bytes.NewReader(text)}
	x, err := NewIndex(r, int64(len(text)))
	must(t, err)
	for _, e := range entries {
		if got, ok, err := x.Lookup(e.Path); !ok || err != nil || got.Target != e.Target {
			t.Fatalf("Lookup(%q) = %v, %v", e.Path, ok, err)
		}
	}
	if each := r.bytes / len(entries); each > 40_000 {
		t.Errorf("a look-up read %d of %d bytes", each, len(text))
	}
	must(t, x.Each(func(Entry) error { return nil }))
}

type counter struct {
	r     *bytes.Reader
	bytes int
}

func (c *counter) ReadAt(b []byte, at int64) (int, error) {
	c.bytes += len(b)
	return c.r.ReadAt(b, at)
}

func TestLayersOfAnIndex(t *testing.T) {
	b := &Builder{}
	for _, e := range []Entry{
		{Path: "d", Mode: unix.S_IFDIR | 0o755}, {Path: "d/x", Mode: unix.S_IFREG}, {Path: "e", Mode: unix.S_IFDIR}, {Path: "e/y", Mode: unix.S_IFREG}, {Path: "f", Mode: unix.S_IFREG},
		{Path: "d", Mode: unix.S_IFREG | 0o600, Size: 7}, {Path: "e", Mode: unix.S_IFCHR}, {Path: "f", Mode: unix.S_IFREG | 0o640},
	} {
		must(t, b.Add(e))
	}
	if diff := cmp.Diff(map[string]Entry{"d": {Path: "d", Mode: unix.S_IFREG | 0o600, Size: 7}, "f": {Path: "f", Mode: unix.S_IFREG | 0o640}}, b.entries); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"", "/a", "..", "../a", "a/", "a//b", "a/./b", "a\x00"} {
		if err := b.Add(Entry{Path: bad, Mode: unix.S_IFREG}); err == nil {
			t.Errorf("Add(%q) was accepted", bad)
		}
	}
}

func TestADamagedIndexIsRefused(t *testing.T) {
	good := string(indexOf(t, sample()))
	for name, text := range map[string]string{
		"nothing":             "",
		"cut at a line":       good[:strings.LastIndex(good, "end ")],
		"cut in the last":     good[:len(good)-1],
		"another first line":  strings.Replace(good, "index 1", "index 2", 1),
		"a number too many":   strings.Replace(good, "end 9", "end 10", 1),
		"lines in disorder":   strings.Replace(good, "\na d", "\nzz d", 1),
		"a number with zeros": strings.Replace(good, " 1 2 ", " 01 2 ", 1),
		"bytes at the end":    good + "x",
	} {
		x, err := NewIndex(strings.NewReader(text), int64(len(text)))
		if err == nil {
			err = x.Each(func(Entry) error { return nil })
		}
		if !errors.Is(err, ErrIndex) {
			t.Errorf("%s: %v, want ErrIndex", name, err)
		}
	}
}

func TestMarksAreNoAttributes(t *testing.T) {
	a := []entry.Xattr{{Name: "trusted.overlay.opaque", Value: []byte("y")}, {Name: sideAttr, Value: []byte("x")}}
	if XattrDigest(a) != [32]byte{} || XattrDigest(append(a, entry.Xattr{Name: "user.x"})) == [32]byte{} {
		t.Error("XattrDigest counts marks, or does not count an attribute")
	}
}

func FuzzIndex(f *testing.F) {
	f.Add(indexOf(f, sample()), "a/b")
	f.Add(indexOf(f, nil), ".")
	f.Fuzz(func(t *testing.T, text []byte, path string) {
		x, err := NewIndex(bytes.NewReader(text), int64(len(text)))
		if err != nil {
			return
		}
		x.searchStep = 8
		e, found, err := x.Lookup(path)
		if found && e.Path != path {
			t.Errorf("Lookup(%q) = %q", path, e.Path)
		}
		b := &Builder{}
		whole := x.Each(func(e Entry) error {
			if e.kind() == unix.S_IFCHR && e.Major|e.Minor == 0 || e.kind() == unix.S_IFREG && e.Size < 0 {
				return errors.New("not in a built index")
			}
			return b.Add(e)
		})
		if whole != nil {
			return
		}
		if _, in := b.entries[path]; in != found || err != nil {
			t.Errorf("Lookup(%q) = %v, %v; the index has it: %v", path, found, err, in)
		}
		var again bytes.Buffer
		must(t, b.Write(&again))
		if b.Len() == int(x.count) && !bytes.Equal(again.Bytes(), text) {
			t.Errorf("an index that Builder would not write:\n%q\n%q", text, again.Bytes())
		}
	})
}

func FuzzReport(f *testing.F) {
	r := Report{From: "a", To: "b\n", TwoWay: true}
	r.add(Item{Path: "\xff", Verdict: Conflict, Note: "x", Side: "\xff.new"})
	r.add(Item{Path: ".", Verdict: KeptLocal})
	f.Add(r.Encode())
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, err := ReadReport(text); err == nil && !bytes.Equal(r.Encode(), text) {
			t.Errorf("ReadReport accepted what Encode would not have written: %q", text)
		}
	})
}

func FuzzPlan(f *testing.F) {
	p := Plan{Actions: []Action{{Op: remove, Path: "a", Mode: 1, Size: 2, Sec: -3, Nsec: 4}, {Op: besides, Path: "\x00", Side: "b", Digest: "c", Take: 3}}}
	f.Add(p.Encode())
	f.Fuzz(func(t *testing.T, text []byte) {
		if p, err := ReadPlan(text); err == nil && !bytes.Equal(p.Encode(), text) {
			t.Errorf("ReadPlan accepted what Encode would not have written: %q", text)
		}
	})
}

func TestAReportKeepsEveryConflict(t *testing.T) {
	r := Report{}
	for i := range 3000 {
		r.add(Item{Path: fmt.Sprint(i), Verdict: KeptLocal})
		if i%3 == 0 {
			r.add(Item{Path: fmt.Sprint(i, "c"), Verdict: Conflict})
		}
	}
	if r.Counts.KeptLocal != 3000 || r.Counts.Conflict != 1000 || len(r.Items) != 2000 || r.Omitted != 2000 {
		t.Errorf("counts %+v, %d items, %d omitted", r.Counts, len(r.Items), r.Omitted)
	}
}
