package watch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"veneer/overlay/mount"
	"veneer/overlay/mount/mounttest"
	"veneer/stage"
)

func TestALevelChangesAtItsWatermarkAndNotAroundIt(t *testing.T) {
	p := PolicyOf(stage.Watermarks{})
	cases := []struct {
		before  Level
		percent int
		want    Level
	}{
		{Good, 0, Good}, {Good, 79, Good}, {Good, 80, Warning}, {Good, 94, Warning}, {Good, 95, Critical}, {Good, 100, Critical},
		{Warning, 79, Warning}, {Warning, 78, Warning}, {Warning, 77, Good}, {Warning, 94, Warning}, {Warning, 95, Critical},
		{Critical, 94, Critical}, {Critical, 93, Critical}, {Critical, 92, Warning}, {Critical, 78, Warning}, {Critical, 77, Good},
	}
	for _, c := range cases {
		if got := p.Next(c.before, c.percent); got != c.want {
			t.Errorf("Next(%s, %d) = %s, want %s", c.before, c.percent, got, c.want)
		}
	}
}

func TestThePolicyHasDefaults(t *testing.T) {
	for w, want := range map[stage.Watermarks]Policy{
		{}:             {80, 95, false},
		{Warning: 50}:  {50, 95, false},
		{Critical: 60}: {60, 60, false},
		{Warning: 70, Critical: 90, Full: "read-only"}: {70, 90, true},
		{Warning: 99, Critical: 200}:                   {80, 95, false},
	} {
		if w.Warning == 99 {
			want.Warning = 80 // no warning above critical
		}
		if got := PolicyOf(w); got != want {
			t.Errorf("PolicyOf(%+v) = %+v, want %+v", w, got, want)
		}
	}
}

func TestPercentIsOfWhatIsScarcer(t *testing.T) {
	for _, c := range []struct {
		r    Room
		want int
		of   string
	}{
		{Room{}, 0, "bytes"}, {Room{Size: 1000, Used: 1}, 1, "bytes"}, {Room{Size: 1000, Used: 941}, 95, "bytes"},
		{Room{Size: 100, Used: 10, Files: 10, FilesUsed: 9}, 90, "files"}, {Room{Size: 1 << 62, Used: 1 << 62}, 100, "bytes"}, {Room{Size: 1, Used: 2}, 100, "bytes"},
	} {
		if got, of := c.r.Percent(); got != c.want || of != c.of {
			t.Errorf("%+v.Percent() = %d of %s, want %d of %s", c.r, got, of, c.want, c.of)
		}
	}
}

// watched is a machine with a tiny upper and a tiny state.
type watched struct {
	Watch
	t    *testing.T
	said []string
}

func newWatched(t *testing.T, full string) *watched {
	t.Helper()
	w := &watched{t: t}
	w.Root = t.TempDir()
	for _, dir := range []string{"run/veneer", "upper", "state", "var", "etc/veneer/watch.d"} {
		if err := os.MkdirAll(filepath.Join(w.Root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"upper", "state"} {
		target := filepath.Join(w.Root, dir)
		if err := (mount.Kernel{}).Apply(mount.Mount{Type: "tmpfs", Source: "t", Target: target, Data: "size=1m,nr_inodes=1000"}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	}
	if err := os.Mkdir(filepath.Join(w.Root, "state/var"), 0o755); err != nil {
		t.Fatal(err)
	}
	v := filepath.Join(w.Root, "var")
	if err := (mount.Kernel{}).Apply(mount.Bind{Source: filepath.Join(w.Root, "state/var"), Target: v}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(v, unix.MNT_DETACH) })
	w.Record = &stage.Record{Upper: stage.Upper{Kind: "tmpfs", Mount: "/upper"}, State: stage.State{Kind: stage.StatePersistent, Mount: "/state"},
		Watermarks: stage.Watermarks{Full: full}, Rules: []stage.Rule{{Path: "/var", Action: "persist", Form: "bind", Source: "/state/var"}, {Path: "/tmp", Action: "ephemeral"}}}
	w.Say = func(p Priority, line string) { w.said = append(w.said, fmt.Sprintf("<%d>%s", p, line)) }
	return w
}

// fill makes a place hold so many KiB of its 1024.
func (w *watched) fill(where string, kib int) {
	w.t.Helper()
	file := filepath.Join(w.Root, where, "filler")
	if err := os.WriteFile(file, make([]byte, kib<<10), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) look() []string {
	w.t.Helper()
	w.said = nil
	if _, err := w.Look(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	return w.said
}

func TestEachCrossingIsToldOnce(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	w := newWatched(t, "")
	for i, step := range []struct {
		where string
		kib   int
		want  []string
	}{
		{"upper", 100, nil},
		{"upper", 850, []string{"<4>warning: upper (memory for what is volatile) is 84% full; see: veneer du"}},
		{"upper", 850, nil},
		{"upper", 1000, []string{"<2>critical: upper (memory for what is volatile) is 98% full; see: veneer du"}},
		{"state", 990, []string{"<2>critical: state is 97% full; see: veneer du"}},
		{"upper", 0, []string{"<5>good: upper (memory for what is volatile) has 1% of its files in use"}},
		{"state", 0, []string{"<5>good: state has 1% of its files in use"}},
	} {
		w.fill(step.where, step.kib)
		if diff := cmp.Diff(step.want, w.look()); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestFilesRunOutToo(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	w := newWatched(t, "")
	for i := range 900 {
		if err := os.WriteFile(filepath.Join(w.Root, "upper", fmt.Sprint(i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.look(); len(got) != 1 || !strings.Contains(got[0], "has 91% of its files in use") {
		t.Errorf("said %q", got)
	}
}

func TestACriticalStateBecomesReadOnlyAndWritableAgain(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	w := newWatched(t, ReadOnly)
	note := filepath.Join(w.Root, "var/note")
	busy, err := os.Create(note)
	if err != nil {
		t.Fatal(err)
	}
	w.fill("state", 1000)
	if got := w.look(); len(got) != 2 || got[1] != "<3>/var cannot be made read-only while programs have files open for writing there; tried again each minute" {
		t.Errorf("said %q while a file is open", got)
	}
	if got := w.look(); got != nil {
		t.Errorf("said %q the second time", got)
	}
	busy.Close()
	if got := w.look(); len(got) != 1 || !strings.HasPrefix(got[0], "<2>/var is read-only now") {
		t.Errorf("said %q once it was closed", got)
	}
	if err := os.WriteFile(note, nil, 0o644); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("writing below /var: %v, want EROFS", err)
	}
	if err := os.WriteFile(filepath.Join(w.Root, "state/request"), nil, 0o644); err != nil {
		t.Errorf("the state itself: %v, want it writable", err)
	}
	if s, err := ReadState(w.Root); err != nil || len(s.ReadOnly) != 1 || s.ReadOnly[0] != "/var" {
		t.Errorf("ReadState = %+v, %v", s, err)
	}
	w.fill("state", 10)
	if got := w.look(); len(got) != 2 || got[1] != "<5>/var is writable again" {
		t.Errorf("said %q when there is room again", got)
	}
	if err := os.WriteFile(note, nil, 0o644); err != nil {
		t.Error(err)
	}
}

func TestHooksAreCalledForEachCrossing(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	w := newWatched(t, "")
	dir := filepath.Join(w.Root, HooksDir)
	out := filepath.Join(w.Root, "out")
	for name, h := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"10-tell":   {"#!/bin/sh\necho \"$@\" >>" + out + "\n", 0o755},
		"20-fails":  {"#!/bin/sh\nexit 3\n", 0o755},
		"30-open":   {"#!/bin/sh\necho open >>" + out + "\n", 0o777},
		"40-README": {"not a program", 0o644},
		".hidden":   {"#!/bin/sh\necho hidden >>" + out + "\n", 0o755},
		"50-last":   {"#!/bin/sh\necho last $# >>" + out + "\n", 0o755},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(h.text), h.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), h.mode); err != nil {
			t.Fatal(err)
		}
	}
	w.fill("state", 850)
	_, err := w.Look(context.Background())
	if err == nil || !strings.Contains(err.Error(), "hook 20-fails: exit status 3") || !strings.Contains(err.Error(), "hook 30-open: not run") {
		t.Errorf("Look = %v", err)
	}
	if _, err := w.Look(context.Background()); err != nil {
		t.Errorf("the second look: %v", err)
	}
	got, err := os.ReadFile(out)
	if want := "data warning 84 /state\nlast 4\n"; err != nil || string(got) != want {
		t.Errorf("hooks wrote %q, %v, want %q", got, err, want)
	}
}

func TestAHookThatHangsIsEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := runHook(ctx, "/bin/sleep", "60"); err == nil {
		t.Error("runHook = nil, want an error")
	}
}

func TestAStateThatCannotBeReadBeginsAnew(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	w := newWatched(t, "")
	for _, text := range []string{"junk", `{"format":9}`, strings.Repeat(" ", maxState+1)} {
		if err := os.WriteFile(filepath.Join(w.Root, StatePath), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := w.look(); len(got) != 1 || !strings.HasPrefix(got[0], "<4>watch begins anew: ") {
			t.Errorf("said %q", got)
		}
		if got := w.look(); got != nil {
			t.Errorf("said %q the second time", got)
		}
	}
}

func TestAMissingPlaceIsAnErrorAndTheOthersAreWatched(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	w := newWatched(t, "")
	w.Record.Upper.Mount = "/none"
	w.fill("state", 850)
	s, err := w.Look(context.Background())
	if err == nil || len(s.Places) != 1 || s.Places[0].Level != Warning {
		t.Errorf("Look = %+v, %v", s, err)
	}
}
