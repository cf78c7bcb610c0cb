package state

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func orders() Orders { return Orders{Serial: "1", Boot: "boot-2", Now: now.Add(1)} }

// scenario is a state before a boot with something on file.
type scenario struct {
	name string
	file func(t *testing.T, d *Dir)
}

func file(r Request) func(*testing.T, *Dir) {
	return func(t *testing.T, d *Dir) {
		t.Helper()
		r.From = "command"
		_, err := d.File(r, now)
		must(t, err)
	}
}

// carried files a request and carries it out, undisturbed.
func carried(t *testing.T, d *Dir, r Request) {
	t.Helper()
	file(r)(t, d)
	out, err := d.CarryOut(context.Background(), orders())
	must(t, err)
	if len(out) != 1 || out[0].Outcome != Done || out[0].Err != nil {
		t.Fatalf("CarryOut(%s) = %+v, want done", r.What(), out)
	}
}

func scenarios() []scenario {
	resetEtc := Request{Kind: Reset, Scope: ScopeEtc, Keep: []string{"identity", "/etc/NetworkManager/system-connections"}}
	fixed := func(then func(*testing.T, *Dir)) func(*testing.T, *Dir) {
		return func(t *testing.T, d *Dir) {
			put(t, d.Name(), "etc/1/fs/resolv.conf +i", "etc/1/fs/.hidden +a", "etc/1/fs/ssh +i", "data/var/log/syslog +a")
			then(t, d)
		}
	}
	again := func(first, second Request) func(*testing.T, *Dir) {
		return func(t *testing.T, d *Dir) {
			carried(t, d, first)
			put(t, d.Name(), "etc/1/fs/since new", "data/var/lib/since new") // the system went on
			file(second)(t, d)
		}
	}
	return []scenario{
		{"reset all", file(Request{Kind: Reset, Scope: ScopeAll})},
		{"reset all but identity and one path", file(Request{Kind: Reset, Scope: ScopeAll, Keep: []string{"identity", "/var/lib/app"}})},
		{"reset etc but identity and one path", file(resetEtc)},
		{"reset of immutable things", fixed(file(resetEtc))},
		{"reset of immutable things, all", fixed(file(Request{Kind: Reset, Scope: ScopeAll}))},
		{"reset data", file(Request{Kind: Reset, Scope: ScopeData})},
		{"reset upper", file(Request{Kind: Reset, Scope: ScopeUpper})},
		{"reset one file", file(Request{Kind: Reset, Scope: "/etc/ssh/sshd_config"})},
		{"reset a directory with a rule below", file(Request{Kind: Reset, Scope: "/var"})},
		{"reset what is not kept", file(Request{Kind: Reset, Scope: "/nowhere"})},
		{"secure reset", fixed(file(Request{Kind: Reset, Scope: ScopeAll, Secure: true}))},
		{"secure reset of etc", file(Request{Kind: Reset, Scope: ScopeEtc, Secure: true, Keep: []string{"network"}})},
		{"undo of a whole", again(Request{Kind: Reset, Scope: ScopeAll}, Request{Kind: Undo})},
		{"undo of parts", again(resetEtc, Request{Kind: Undo})},
		{"undo of immutable things", fixed(again(resetEtc, Request{Kind: Undo}))},
		{"undo of an undo", func(t *testing.T, d *Dir) {
			again(resetEtc, Request{Kind: Undo})(t, d)
			_, err := d.CarryOut(context.Background(), orders())
			must(t, err)
			file(Request{Kind: Undo})(t, d)
		}},
		{"undo of nothing", file(Request{Kind: Undo})},
		{"quarantine", file(Request{Kind: Quarantine, Place: "etc/1"})},
		{"undo of what the init put aside", func(t *testing.T, d *Dir) {
			_, err := d.Run(context.Background(), Request{Kind: Quarantine, Place: "etc/1"}, orders())
			must(t, err)
			file(Request{Kind: Undo})(t, d)
		}},
		{"two at once", func(t *testing.T, d *Dir) {
			file(resetEtc)(t, d)
			file(Request{Kind: Reset, Scope: ScopeData})(t, d)
		}},
		{"restore", func(t *testing.T, d *Dir) {
			_, err := d.CreateSnapshot(context.Background(), SnapshotSpec{Name: "s", Serial: "1", Boot: "b", Data: true, Identity: true, Now: now})
			must(t, err)
			put(t, d.Name(), "etc/1/fs/since new", "data/var/lib/since new", "data/srv/x x")
			file(Request{Kind: Restore, Snapshot: "s"})(t, d)
		}},
		{"restore, staged, and undone", func(t *testing.T, d *Dir) {
			_, err := d.CreateSnapshot(context.Background(), SnapshotSpec{Name: "s", Serial: "1", Boot: "b", Now: now})
			must(t, err)
			r, err := d.File(Request{Kind: Restore, Snapshot: "s"}, now)
			must(t, err)
			must(t, d.StageRestore(context.Background(), r))
			_, err = d.CarryOut(context.Background(), orders())
			must(t, err)
			file(Request{Kind: Undo})(t, d)
		}},
	}
}

// TestAStopAtAnyInstantChangesNothingInTheEnd cuts the power before the k-th change, for all k, and lets the next boot go on.
func TestAStopAtAnyInstantChangesNothingInTheEnd(t *testing.T) {
	needsRoot(t)
	total := 0
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			scratch := memory(t)
			prepare := func() *Dir {
				root, err := os.MkdirTemp(scratch, "")
				must(t, err)
				d := populate(t, root)
				s.file(t, d)
				return d
			}
			// boots until nothing is left to do; a stop of k ends the first one.
			boot := func(d *Dir, k int) (changes int) {
				d.stop = func(string) error {
					changes++
					if k > 0 && changes >= k {
						return errStopped
					}
					return nil
				}
				outcomes, err := d.CarryOut(context.Background(), orders())
				if k > 0 {
					return changes
				}
				must(t, err)
				for _, o := range outcomes {
					if o.Err != nil && o.Outcome != Refused {
						t.Errorf("%s: %s: %v", o.What, o.Outcome, o.Err)
					}
				}
				return changes
			}
			whole := prepare()
			n := boot(whole, 0)
			want := list(t, whole.Name(), "trash")
			if left, _, _ := whole.Requests(); len(left) > 0 {
				t.Errorf("a request is left: %v", left)
			}
			for k := 1; k <= n; k++ {
				d := prepare()
				boot(d, k)
				again := boot(d, 0)
				if diff := cmp.Diff(want, list(t, d.Name(), "trash")); diff != "" {
					t.Fatalf("stopped before change %d of %d, then %d changes (-undisturbed +stopped):\n%s", k, n, again, diff)
				}
				d.Close()
				unfix(d.Name())
				os.RemoveAll(d.Name())
			}
			total += n
			t.Logf("%d instants", n)
		})
	}
	t.Logf("%d instants in all", total)
}

func TestASecondStopDuringTheRepairIsLikeTheFirst(t *testing.T) {
	needsRoot(t)
	for k := 5; k < 60; k += 7 {
		d := populate(t, memory(t))
		file(Request{Kind: Reset, Scope: ScopeAll, Keep: []string{"identity"}})(t, d)
		for round := range 40 {
			left := k + round
			d.stop = func(string) error {
				if left--; left < 0 {
					return errStopped
				}
				return nil
			}
			if _, err := d.CarryOut(context.Background(), orders()); !errors.Is(err, errStopped) && err != nil {
				t.Fatal(err)
			}
		}
		d.stop = nil
		if _, err := d.CarryOut(context.Background(), orders()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(filepath.Join(d.Name(), "etc/1/fs/hostname")); err != nil {
			t.Error("the hostname, which identity keeps, has gone")
		}
		if _, err := os.Lstat(filepath.Join(d.Name(), "etc/1/fs/ssh/sshd_config")); err == nil {
			t.Error("sshd_config is still there")
		}
	}
}
