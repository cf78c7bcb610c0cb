package keeper

// What somebody spoiled in a state, and what is taken back.

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"veneer/overlay/mount/mounttest"
	"veneer/overlay/rule"
	"veneer/overlay/state"
	"veneer/stage"
)

// What the init put aside by itself comes back for good: not for the boot that brings it back alone.
func TestAnUndoBringsAnUpperBackForGood(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	stamp := func(edit func(*state.Stamp)) func(w world, s stage.UpperSpec) error {
		return func(w world, s stage.UpperSpec) error {
			stamp := s.Stamp()
			edit(&stamp)
			stamp.Format = state.StampFormat
			return os.WriteFile(w.path("state/etc/1/stamp/stamp.json"), stamp.Encode(), 0o600)
		}
	}
	for name, c := range map[string]struct {
		change rule.BaseChange
		base   string // of the second boot
		bend   func(w world, s stage.UpperSpec) error
		merged bool // by the boot that brings it back
	}{
		"no stamp": {"", "1", func(w world, _ stage.UpperSpec) error { return os.RemoveAll(w.path("state/etc/1/stamp")) }, true},
		"a stamp of junk": {"", "1", func(w world, _ stage.UpperSpec) error {
			return os.WriteFile(w.path("state/etc/1/stamp/stamp.json"), []byte("junk"), 0o600)
		}, true},
		"a stamp that is a directory": {"", "1", func(w world, _ stage.UpperSpec) error {
			name := w.path("state/etc/1/stamp/stamp.json")
			return errors.Join(os.Remove(name), os.Mkdir(name, 0o755))
		}, true},
		"a link for the directory of the stamp": {"", "1", func(w world, _ stage.UpperSpec) error {
			name := w.path("state/etc/1/stamp")
			return errors.Join(os.RemoveAll(name), os.Symlink("/", name))
		}, true},
		"another product":              {"", "1", stamp(func(s *state.Stamp) { s.Product = "signage" }), true},
		"other options of the overlay": {"", "1", stamp(func(s *state.Stamp) { s.Options = "metacopy=on" }), true},
		"a rule that says quarantine":  {rule.Quarantine, "2", nil, false},
		"a rule that says reset":       {rule.Reset, "2", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			spec := w.spec("1", "1", c.change)
			w.upper(spec)
			w.edit(spec, func(etc string) { must(t, os.WriteFile(etc+"/own", []byte("own"), 0o600)) })
			if c.bend != nil {
				must(t, c.bend(w, spec))
			}
			spec = w.spec(c.base, "1", c.change)
			w.upper(spec)
			if got := w.read("state/etc/1/fs/own"); !strings.HasPrefix(got, "!") {
				t.Fatalf("the fresh upper has own = %q", got)
			}
			k, err := w.keeper("kiosk")
			must(t, err)
			defer k.Close()
			_, err = k.File(state.Request{Kind: state.Undo, From: "command"}, time.Now())
			must(t, err)
			done, err := k.Requests(context.Background(), stage.Asked{Deployment: "1"})
			if err != nil || len(done.Undone) > 0 {
				t.Fatalf("Requests() = %+v, %v", done, err)
			}
			for boot := range 2 {
				done := w.upper(spec)
				if got := w.read("state/etc/1/fs/own"); got != "own" || done.What != "" || (done.Merge != nil) != (c.merged && boot == 0) {
					t.Errorf("boot %d behind the undo: own = %q, %+v", boot, got, done)
				}
			}
		})
	}
}

func TestAStateWhoseMarkIsGoneIsKnownByItsStamps(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	for name, c := range map[string]struct {
		bend func(w world) error
		lost string // why the mark is written anew; "" where the state is left alone
		why  string
	}{
		"it is missing":           {func(w world) error { return os.Remove(w.path("state/format")) }, "format is missing", ""},
		"a byte of it is another": {func(w world) error { return os.WriteFile(w.path("state/format"), []byte("x"), 0o600) }, "format: line 1", ""},
		"it is a link": {func(w world) error {
			return errors.Join(os.Remove(w.path("state/format")), os.Symlink("/", w.path("state/format")))
		}, "not a regular file", ""},
		"it is missing, and no stamp is there": {func(w world) error {
			return errors.Join(os.Remove(w.path("state/format")), os.RemoveAll(w.path("state/etc/1/stamp")))
		}, "", "write format anew: docs/rules.md"},
		"it is damaged, and a program left something like a stamp": {func(w world) error {
			s := state.Stamp{Format: state.StampFormat, Product: "kiosk"}
			return errors.Join(os.WriteFile(w.path("state/format"), []byte("x"), 0o600), os.RemoveAll(w.path("state/etc/1/stamp")),
				os.MkdirAll(w.path("state/data/var/stamp"), 0o700), os.WriteFile(w.path("state/data/var/stamp/stamp.json"), s.Encode(), 0o600))
		}, "", "no stamp says whose it is"},
		"it is damaged, and a stamp is another product's": {func(w world) error {
			s := state.Stamp{Format: state.StampFormat, Product: "signage"}
			return errors.Join(os.WriteFile(w.path("state/format"), []byte("x"), 0o600), os.MkdirAll(w.path("state/merge/opt/stamp"), 0o700),
				os.WriteFile(w.path("state/merge/opt/stamp/stamp.json"), s.Encode(), 0o600))
		}, "", `merge/opt belongs to the product "signage"`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.upper(w.spec("1", "1", ""))
			must(t, c.bend(w))
			d, lost, err := stage.OpenDir(w.path("state"), stage.Owner{Product: "kiosk"})
			if c.lost == "" {
				if !errors.Is(err, stage.ErrForeign) || !strings.Contains(err.Error(), c.why) {
					t.Errorf("OpenDir() = %v, want ErrForeign and %q", err, c.why)
				}
				return
			}
			must(t, err, d.Close())
			if !strings.Contains(lost, c.lost) {
				t.Errorf("lost is %q, want %q", lost, c.lost)
			}
			d, lost, err = stage.OpenDir(w.path("state"), stage.Owner{Product: "kiosk"})
			must(t, err, d.Close())
			if lost != "" {
				t.Errorf("opened again: %q", lost)
			}
		})
	}
}

func TestWhatTookTheNameOfADirectoryIsNamedWithAWayOut(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	w := newWorld(t)
	spec := w.spec("1", "1", "")
	w.upper(spec)
	must(t, os.RemoveAll(w.path("state/etc")), os.Symlink("/", w.path("state/etc")))
	k, err := w.keeper("kiosk")
	must(t, err)
	defer k.Close()
	if _, err := k.Upper(context.Background(), spec); err == nil || !strings.Contains(err.Error(), "state/etc is no directory: move it away") {
		t.Errorf("Upper() = %v", err)
	}
	_, err = k.File(state.Request{Kind: state.Reset, Scope: state.ScopeAll, From: "command"}, time.Now())
	must(t, err)
	done, err := k.Requests(context.Background(), stage.Asked{Deployment: "1"})
	must(t, err)
	if len(done.Undone) > 0 {
		t.Errorf("Requests() = %+v", done)
	}
	if done := w.upper(spec); !done.Fresh {
		t.Errorf("behind the reset: %+v", done)
	}
}

func TestARequestThatCannotBeReadIsRefusedAloud(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	w := newWorld(t)
	k, err := w.keeper("kiosk")
	must(t, err)
	defer k.Close()
	r, err := k.File(state.Request{Kind: state.Reset, Scope: state.ScopeAll, From: "command"}, time.Now())
	must(t, err)
	at := w.path("state/requests/")
	must(t, os.WriteFile(at+"/"+r.ID+".json", []byte("garbage"), 0o600), os.WriteFile(at+"/20200101T000000.000000Z.json", nil, 0o600),
		os.WriteFile(at+"/20200101T000001.000000Z.json", make([]byte, 3<<20), 0o600), os.Symlink("/etc/passwd", at+"/20200101T000002.000000Z.json"),
		os.Mkdir(at+"/20200101T000003.000000Z.json", 0o700), os.WriteFile(at+"/reset", []byte("all"), 0o600),
		os.WriteFile(at+"/20200101T000004.000000Z.json", []byte("{\n  \"format\": 2\n}\n"), 0o600))
	done, err := k.Requests(context.Background(), stage.Asked{Deployment: "1"})
	must(t, err)
	if len(done.Undone) != 7 || len(done.Requests) != 7 {
		t.Errorf("Requests() = %+v, want 7 that could not be done", done)
	}
	for _, r := range done.Requests {
		if r.Outcome != state.Refused || !strings.Contains(r.Error, "requests/") {
			t.Errorf("request %+v, want it refused by its name", r)
		}
	}
	if left, _ := filepath.Glob(at + "/*"); len(left) > 0 {
		t.Errorf("still on file: %v", left)
	}
	entries, _, err := k.Journal()
	must(t, err)
	if len(entries) != 7 || entries[0].Kind != state.Unreadable || entries[0].Why == "" || entries[0].What == "" {
		t.Errorf("the journal has %+v", entries)
	}
	if done, err := k.Requests(context.Background(), stage.Asked{Deployment: "1"}); err != nil || len(done.Requests) > 0 {
		t.Errorf("the next boot: %+v, %v", done, err)
	}
}
