package state

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestABootThatAsksForNothingIsIdle(t *testing.T) {
	needsRoot(t)
	d := populate(t, t.TempDir())
	if d.Idle() {
		t.Error("a state without its ballast is idle")
	}
	boot := Boot{Orders: orders()}
	_, err := d.Begin(context.Background(), boot)
	must(t, err)
	if !d.Idle() || d.Asks(FromCommandLine, "") {
		t.Error("a state with nothing to do is not idle")
	}
	boot.CommandLine = Order{"etc", Request{Kind: Reset, Scope: ScopeEtc}}
	boot.Firmware = Order{"debian", Request{Kind: Reset, Scope: ScopeData}}
	if !d.Asks(FromCommandLine, "etc") {
		t.Error("a new order is not seen")
	}
	out, err := d.Begin(context.Background(), boot)
	must(t, err)
	if len(out) != 2 || out[0].Outcome != Done || out[1].Outcome != Done {
		t.Errorf("Begin = %+v, want both orders done", out)
	}
	if !d.Idle() || d.Asks(FromCommandLine, "etc") {
		t.Error("an order that was carried out, and can be undone, keeps the state busy")
	}
	if !d.Asks(FromCommandLine, "") {
		t.Error("a boot without the order does not forget it")
	}
	if out, err = d.Begin(context.Background(), boot); err != nil || len(out) != 0 {
		t.Errorf("the same boot again: %+v, %v", out, err)
	}
	file(Request{Kind: Undo})(t, d)
	if d.Idle() {
		t.Error("a state with a request is idle")
	}
}

func TestAnOrderThatMakesNoSenseIsRefused(t *testing.T) {
	d := open(t, t.TempDir())
	must(t, d.Adopt(Owner{Product: "p"}))
	out, err := d.Begin(context.Background(), Boot{Orders: orders(), CommandLine: Order{"x", Request{Kind: Reset, Scope: "x"}}})
	if err != nil || len(out) != 1 || out[0].Outcome != Refused {
		t.Errorf("Begin = %+v, %v", out, err)
	}
}

// TestBootsThatFailLeadBackToTheLastGoodSnapshot lets a machine fail until nothing is left to return to.
func TestBootsThatFailLeadBackToTheLastGoodSnapshot(t *testing.T) {
	needsRoot(t)
	d := populate(t, memory(t))
	hostname := filepath.Join(d.Name(), "etc/1/fs/hostname")
	for i, name := range []string{"old", "new"} {
		must(t, os.WriteFile(hostname, []byte(name), 0o644))
		boot := fmt.Sprint("good-", i)
		_, err := d.Attempt(boot)
		must(t, err)
		_, err = d.Bless(boot, "1", now)
		must(t, err)
		s, err := d.CreateSnapshot(context.Background(), SnapshotSpec{Name: name, Serial: "1", Boot: boot, Now: now.Add(time.Duration(i) * time.Hour)})
		must(t, err)
		if !s.Good {
			t.Errorf("the snapshot %s of a blessed boot is not good", name)
		}
	}
	must(t, os.WriteFile(hostname, []byte("broken"), 0o644))
	var seen []string
	for n := 1; n <= 8; n++ {
		boot := fmt.Sprint("bad-", n)
		_, err := d.Attempt(boot)
		must(t, err)
		o := orders()
		o.Boot, o.Now = boot, now.Add(time.Duration(n)*time.Minute)
		_, err = d.Begin(context.Background(), Boot{Orders: o, Tries: 2})
		must(t, err)
		text, err := os.ReadFile(hostname)
		must(t, err)
		seen = append(seen, string(text))
	}
	if got, want := fmt.Sprint(seen), "[broken broken new new old old old old]"; got != want {
		t.Errorf("eight boots that failed had %s, want %s", got, want)
	}
	if all, _, err := d.Snapshots(); err != nil || len(all) != 2 {
		t.Errorf("a return used a snapshot up: %v, %v", all, err)
	}
}
