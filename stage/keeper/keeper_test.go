package keeper

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"veneer/overlay"
	"veneer/overlay/entry"
	"veneer/overlay/merge"
	"veneer/overlay/mount"
	"veneer/overlay/mount/mounttest"
	"veneer/overlay/rule"
	"veneer/overlay/state"
	"veneer/stage"
)

// world is a base in two versions, and a state on a tmpfs.
type world struct {
	t   *testing.T
	dir string
}

func newWorld(t *testing.T) world {
	t.Helper()
	dir := t.TempDir()
	if err := (mount.Kernel{}).Apply(mount.Mount{Type: "tmpfs", Source: "t", Target: dir}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	w := world{t, dir}
	for name, text := range map[string]string{"1/etc/both": "old", "1/etc/theirs": "old", "2/etc/both": "new", "2/etc/theirs": "new", "2/etc/fresh": "fresh",
		"state/": ""} {
		w.write(name, text)
	}
	return w
}

func (w world) path(name string) string { return filepath.Join(w.dir, name) }

func (w world) write(name, text string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(w.path(name)), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if !strings.HasSuffix(name, "/") {
		if err := os.WriteFile(w.path(name), []byte(text), 0o644); err != nil {
			w.t.Fatal(err)
		}
	} else if err := os.MkdirAll(w.path(name), 0o755); err != nil {
		w.t.Fatal(err)
	}
}

func (w world) read(name string) string {
	text, err := os.ReadFile(w.path(name))
	if err != nil {
		return "!" + err.Error()
	}
	return string(text)
}

func (w world) keeper(product string) (*Keeper, error) {
	return Open(w.path("state"), stage.Owner{Product: product, Boot: "b"})
}

// spec is that of /etc on one of the bases.
func (w world) spec(base, serial string, change rule.BaseChange) stage.UpperSpec {
	w.t.Helper()
	var index bytes.Buffer
	ix, err := merge.Scan(w.path(base + "/etc"))
	if err == nil {
		err = ix.Write(&index)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.write("index"+base, index.String())
	id := strings.Repeat(base, 64)
	return stage.UpperSpec{Path: "/etc", Dir: "etc/" + serial, Found: overlay.Found{Type: overlay.Directory, At: []string{w.path(base + "/etc")}},
		Rule: rule.Rule{Path: "/etc", Action: rule.Merge, BaseChange: change}, Index: w.path("index" + base),
		Base: stage.Base{Images: []string{id}, Base: id, Name: "kiosk", Version: base, Serial: serial}}
}

// edit makes changes as a user of the running system would, through an overlay.
func (w world) edit(spec stage.UpperSpec, do func(etc string)) {
	w.t.Helper()
	at := w.path("mnt")
	if err := os.MkdirAll(at, 0o755); err != nil {
		w.t.Fatal(err)
	}
	l := overlay.Layers{Lowers: spec.Found.At, Upper: w.path("state/" + spec.Dir + "/fs"), Work: w.path("state/" + spec.Dir + "/work")}
	if err := (mount.Kernel{}).Apply(mount.Mount{Type: "overlay", Source: "o", Target: at, Data: l.Data() + "," + overlay.KeptOptions}); err != nil {
		w.t.Fatal(err)
	}
	do(at)
	if err := unix.Unmount(at, 0); err != nil {
		w.t.Fatal(err)
	}
}

func (w world) upper(spec stage.UpperSpec) stage.UpperDone {
	w.t.Helper()
	k, err := w.keeper("kiosk")
	if err != nil {
		w.t.Fatal(err)
	}
	defer k.Close()
	done, err := k.Upper(context.Background(), spec)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, v, err := k.Against(spec.Dir, spec.Stamp()); v != state.Same || err != nil {
		w.t.Errorf("after Upper the stamp is %s, %v", v, err)
	}
	return done
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestAnUpperMeetsAnotherBase(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	for name, c := range map[string]struct {
		change rule.BaseChange
		want   map[string]string // files through the overlay on base 2
		what   string
	}{
		"merged":      {rule.MergeChange, map[string]string{"both": "mine", "both.new": "new", "theirs": "new", "fresh": "fresh", "own": "own"}, ""},
		"kept":        {rule.Keep, map[string]string{"both": "mine", "theirs": "new", "fresh": "fresh", "own": "own"}, ""},
		"quarantined": {rule.Quarantine, map[string]string{"both": "new", "theirs": "new", "fresh": "fresh"}, "quarantined"},
		"reset":       {rule.Reset, map[string]string{"both": "new", "theirs": "new", "fresh": "fresh"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first := w.spec("1", "1", c.change)
			if done := w.upper(first); !done.Fresh || done.Merge != nil {
				t.Errorf("the first boot: %+v", done)
			}
			w.edit(first, func(etc string) {
				must(t, os.WriteFile(etc+"/both", []byte("mine"), 0o644), os.WriteFile(etc+"/own", []byte("own"), 0o644))
			})
			if done := w.upper(first); done.Fresh || done.Merge != nil || done.What != "" {
				t.Errorf("the same base again: %+v", done)
			}
			second := w.spec("2", "1", c.change)
			done := w.upper(second)
			if (done.Merge != nil) != (c.change == rule.MergeChange) || !strings.Contains(done.What, c.what) || (done.What == "") != (c.what == "") {
				t.Errorf("on another base: %+v", done)
			}
			if done.Merge != nil && (done.Merge.Conflict != 1 || done.Merge.KeptLocal != 1) {
				t.Errorf("the merge counted %+v", done.Merge)
			}
			w.edit(second, func(etc string) {
				entries, err := os.ReadDir(etc)
				must(t, err)
				got := map[string]string{}
				for _, e := range entries {
					text, _ := os.ReadFile(filepath.Join(etc, e.Name()))
					got[e.Name()] = string(text)
				}
				for file, text := range c.want {
					if got[file] != text {
						t.Errorf("/etc/%s holds %q, want %q", file, got[file], text)
					}
					delete(got, file)
				}
				if len(got) > 0 {
					t.Errorf("/etc holds %v besides", got)
				}
			})
		})
	}
}

func TestAnUpperMeetsOneBaseAfterTheOther(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	w := newWorld(t)
	first := w.spec("1", "1", "")
	w.upper(first)
	w.edit(first, func(etc string) { must(t, os.WriteFile(etc+"/both", []byte("mine"), 0o644)) })
	for i, base := range []string{"2", "3", "4"} {
		w.write(base+"/etc/both", "new in "+base)
		if done := w.upper(w.spec(base, "1", "")); done.Merge == nil || done.Merge.Conflict != 1 {
			t.Errorf("base change %d: %+v, want a merge with a conflict", i+1, done)
		}
		if got := w.read("state/etc/1/fs/both.new"); got != "new in "+base {
			t.Errorf("base change %d left both.new = %q", i+1, got)
		}
	}
}

// The files of the machine's identity are no conflict, whatever a new base has there; and a change of a layer alone is told as one.
func TestAMergeLeavesTheIdentityAloneAndNamesTheImageThatChanged(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	w := newWorld(t)
	for base, text := range map[string]string{"1": "old", "2": "new"} {
		for _, name := range []string{"machine-id", "ssh/ssh_host_ed25519_key", "hostname"} {
			w.write(base+"/etc/"+name, text)
		}
	}
	first := w.spec("1", "1", rule.MergeChange)
	w.upper(first)
	w.edit(first, func(etc string) {
		for _, name := range []string{"machine-id", "ssh/ssh_host_ed25519_key", "hostname"} {
			must(t, os.WriteFile(filepath.Join(etc, name), []byte("mine"), 0o600))
		}
	})
	w.write("state/identity/hostname", "mine\n")
	second := w.spec("2", "1", rule.MergeChange)
	done := w.upper(second)
	if done.Merge == nil || done.Merge.Conflict != 0 || done.Merge.KeptLocal != 3 || done.Merge.From != first.Base.Base || done.Merge.To != second.Base.Base {
		t.Errorf("on another base: %+v", done.Merge)
	}
	w.edit(second, func(etc string) {
		for _, name := range []string{"machine-id", "ssh/ssh_host_ed25519_key", "hostname"} {
			if text, err := os.ReadFile(filepath.Join(etc, name)); err != nil || string(text) != "mine" {
				t.Errorf("/etc/%s holds %q, %v", name, text, err)
			}
			if entry.Exists(unix.AT_FDCWD, filepath.Join(etc, name)+".new") {
				t.Errorf("/etc/%s.new is there", name)
			}
		}
	})
	layer := func(id string) stage.UpperSpec {
		s := second
		s.Base.Images = []string{second.Base.Base, id}
		return s
	}
	with := strings.Repeat("a", 64)
	if done := w.upper(layer(with)); done.Merge == nil || done.Merge.To != with || done.Merge.From == done.Merge.To {
		t.Errorf("with a layer: %+v", done.Merge)
	}
	other := strings.Repeat("c", 64)
	if done := w.upper(layer(other)); done.Merge == nil || done.Merge.From != with || done.Merge.To != other {
		t.Errorf("with another layer: %+v", done.Merge)
	}
}

func TestANewDeploymentBeginsWithTheUpperOfTheFormerOne(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	w := newWorld(t)
	first := w.spec("1", "1", "")
	w.upper(first)
	w.edit(first, func(etc string) { must(t, os.WriteFile(etc+"/own", []byte("own"), 0o600)) })
	second := w.spec("2", "2", "")
	if done := w.upper(second); !done.Fresh || done.Merge == nil {
		t.Errorf("the first boot of deployment 2: %+v", done)
	}
	if got := w.read("state/etc/2/fs/own"); got != "own" {
		t.Errorf("deployment 2 has own = %q", got)
	}
	w.edit(second, func(etc string) { must(t, os.Remove(etc+"/own")) })
	w.upper(first) // a rollback
	if got := w.read("state/etc/1/fs/own"); got != "own" {
		t.Errorf("after the rollback own = %q, want that of deployment 1", got)
	}
}

func TestWhatNobodyCanVouchForIsQuarantined(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	for name, bend := range map[string]func(w world) error{
		"no stamp": func(w world) error { return os.RemoveAll(w.path("state/etc/1/stamp")) },
		"a stamp of junk": func(w world) error {
			return os.WriteFile(w.path("state/etc/1/stamp/stamp.json"), []byte("junk"), 0o600)
		},
		"a stamp that is a fifo": func(w world) error {
			name := w.path("state/etc/1/stamp/stamp.json")
			return errors.Join(os.Remove(name), unix.Mkfifo(name, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			spec := w.spec("1", "1", "")
			w.upper(spec)
			w.edit(spec, func(etc string) { must(t, os.WriteFile(etc+"/own", []byte("own"), 0o600)) })
			must(t, bend(w))
			done := w.upper(spec)
			if says := "its stamp cannot be read"; !strings.Contains(done.What, "quarantined") || strings.Contains(done.Why, says) != (name != "no stamp") {
				t.Errorf("Upper() = %+v, want a quarantine", done)
			}
			if got := w.read("state/etc/1/fs/own"); !strings.HasPrefix(got, "!") {
				t.Errorf("the fresh upper has own = %q", got)
			}
			if found, _ := filepath.Glob(w.path("state/aside/*/*/fs/own")); len(found) != 1 {
				t.Errorf("the former upper lies at %v", found)
			}
		})
	}
}

func TestTheStateOfAnotherProductIsLeftAlone(t *testing.T) {
	w := world{t, t.TempDir()}
	w.write("state/", "")
	k, err := w.keeper("kiosk")
	must(t, err, k.Close())
	if _, err := w.keeper("signage"); !errors.Is(err, stage.ErrForeign) {
		t.Errorf("Open() for another product = %v, want ErrForeign", err)
	}
}

func TestAnUpperKeepsOnlyWhatItsRuleLets(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	w := newWorld(t)
	spec := w.spec("1", "1", "")
	spec.Rule.Allow = []string{"ssh"}
	w.upper(spec)
	w.edit(spec, func(etc string) {
		must(t, os.Mkdir(etc+"/ssh", 0o755), os.WriteFile(etc+"/ssh/key", []byte("k"), 0o600), os.WriteFile(etc+"/junk", nil, 0o644), os.WriteFile(etc+"/both", []byte("mine"), 0o644))
	})
	w.upper(spec)
	for name, want := range map[string]bool{"ssh/key": true, "junk": false, "both": false} {
		if got := w.read("state/etc/1/fs/" + name); strings.HasPrefix(got, "!") == want {
			t.Errorf("%s after the sweep: %q", name, got)
		}
	}
}

func TestTheOtherSideOfAConflictSurvivesWithItsFile(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	w := newWorld(t)
	first, second := w.spec("1", "1", rule.MergeChange), w.spec("2", "1", rule.MergeChange)
	first.Rule.Allow, second.Rule.Allow = []string{"both"}, []string{"both"}
	w.upper(first)
	w.edit(first, func(etc string) { must(t, os.WriteFile(etc+"/both", []byte("mine"), 0o644)) })
	if done := w.upper(second); done.Merge == nil || done.Merge.Conflict != 1 {
		t.Errorf("on another base: %+v, want a conflict", done.Merge)
	}
	w.edit(second, func(etc string) {
		must(t, os.WriteFile(etc+"/junk.new", nil, 0o644), os.WriteFile(etc+"/.new", nil, 0o644), os.WriteFile(etc+"/both.new2", nil, 0o644))
	})
	w.upper(second)
	for name, want := range map[string]bool{"both": true, "both.new": true, "both.new2": false, "junk.new": false, ".new": false} {
		if got := w.read("state/etc/1/fs/" + name); strings.HasPrefix(got, "!") == want {
			t.Errorf("%s after the sweep: %q", name, got)
		}
	}
}

func TestACallTravelsOverTheWire(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	w := newWorld(t)
	var in, out bytes.Buffer
	owner := stage.Owner{Product: "kiosk", Boot: "b"}
	for _, c := range []stage.Call{{Op: stage.OpRequests, Dir: w.path("state"), Owner: owner}, {Op: stage.OpUpper, Dir: w.path("state"), Owner: owner, Upper: w.spec("1", "1", "")}, {Op: "dance"}} {
		must(t, stage.WriteCall(&in, &c))
	}
	must(t, Serve(context.Background(), &in, &out))
	for i, want := range []string{"", "", "does not know"} {
		a, err := stage.ReadAnswer(&out)
		must(t, err)
		if (a.Err() == nil) != (want == "") || want != "" && !strings.Contains(a.Error, want) {
			t.Errorf("answer %d is %v, want %q", i, a.Err(), want)
		}
		if i == 1 && !a.Upper.Fresh {
			t.Errorf("the upper's answer is %+v", a.Upper)
		}
	}
}
