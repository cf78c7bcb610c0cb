package vmtests

// A state on a real file system after a power cut behind any of the writes that a boot did to its disk.
//
//	machine   q35, 512 MiB, for what is recorded
//	disks     vda: a store with two deployments, write-protected; vdb: the state, each write to it recorded (blklogwrites)
//	replay    no machine: the recorded writes up to some instant on a copy of the disk; the host's kernel mounts it, the program of the
//	          tools layer goes on as in a boot, and what is there then must be the old state or the new one, whole

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"veneer/overlay/state"
	"veneer/vmtests/qemu"
)

// power are two builds of which a merge of /etc has much to do.
func power(t *testing.T) (old, new output) {
	t.Helper()
	var before, after []file
	for _, kind := range []string{"both", "local", "deleted", "same", "base"} {
		for n := range 10 {
			name := fmt.Sprintf("etc/%s-%d", kind, n)
			before = append(before, file{name, "old\n"})
			text := "new\n"
			if kind == "local" {
				text = "old\n"
			}
			after = append(after, file{name, text})
		}
	}
	before = append(before, file{"var/lib/seed/a", "seed\n"}, file{"var/lib/seed/b", "seed\n"})
	after = append(after, file{"var/lib/seed/a", "seed\n"}, file{"var/lib/seed/b", "seed\n"})
	return changed(t, "power", "", before, after)
}

// fiftyLocalPaths writes what a merge has to do with: ten paths of each of five kinds.
const fiftyLocalPaths = `for n in 0 1 2 3 4 5 6 7 8 9; do echo mine > /etc/both-$n; echo mine > /etc/local-$n; rm /etc/deleted-$n; echo new > /etc/same-$n; ` +
	`echo mine > /etc/mine-$n; done; mkdir /var/lib/app; for n in 0 1 2 3 4 5 6 7 8 9; do for m in 0 1 2 3 4 5 6 7 8 9; do echo $n > /var/lib/app/$n-$m; done; done; sync`

// recorder is a machine whose state lies on a disk of its own, each boot of which can be recorded.
type recorder struct {
	t     *testing.T
	out   output
	store string
	state string
}

// boots boots it, has fn do something, and returns the disk as it was before and what was written to it.
func (r recorder) boots(words string, fn func(g *guest)) (before, log string) {
	r.t.Helper()
	before = copied(r.t, r.state)
	log = filepath.Join(filepath.Dir(before), "writes.log")
	if err := os.WriteFile(log, nil, 0o644); err != nil {
		r.t.Fatal(err)
	}
	vm := r.out.vm(r.t, r.store, "veneer.state=/dev/vdb", words)
	vm.Disks = append(vm.Disks, qemu.Disk{Path: r.state, Bus: qemu.VirtioBlk, Log: log})
	g := start(r.t, vm)
	g.shell()
	g.keepsAll()
	fn(g)
	g.off()
	return before, log
}

func recorderOf(t *testing.T, old, new output) recorder {
	t.Helper()
	r := recorder{t, old, both(t, old, new), stateDisk(t, emptyDir(t), 24)}
	return r
}

// undisturbed is what the bench makes of the disk without any power cut, at these places of the state.
func (b bench) undisturbed(image string, places ...string) parts {
	b.t.Helper()
	var all parts
	err := b.with(copied(b.t, image), func(at string) (err error) {
		if err := b.goOn(); err != nil {
			return err
		}
		all, err = partsOf(at, places...)
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}

// asIs is what is in the state on the disk, at these places.
func (b bench) asIs(image string, places ...string) parts {
	b.t.Helper()
	var all parts
	err := b.with(copied(b.t, image), func(at string) (err error) {
		all, err = partsOf(at, places...)
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}

// endsAs goes on with the state as the next boot does, and holds the end against one that nothing disturbed. What the system itself
// writes once it runs may be there or not.
func (b bench) endsAs(at string, want parts, system []string) error {
	if err := b.goOn(); err != nil {
		return err
	}
	places := slices.Collect(maps.Keys(want))
	got, err := partsOf(at, places...)
	if err != nil {
		return err
	}
	if diff := want.differs(got, system); len(diff) > 0 {
		return fmt.Errorf("the next boot ends otherwise than one without a power cut: %q", diff)
	}
	return nil
}

// wantOutcomes checks that the instants are worth something: each outcome was met, and no other.
func wantOutcomes(t *testing.T, got map[string]int, want ...string) {
	t.Helper()
	if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, slices.Sorted(slices.Values(want))) {
		t.Errorf("the power cuts led to %q, want each of %q", keys, want)
	}
}

func TestAPowerCutBehindAnyWriteOfTheFirstBootLeavesAFirstBoot(t *testing.T) {
	t.Parallel()
	old, new := power(t)
	r := recorderOf(t, old, new)
	b := benchOf(t, old, "1")
	before, log := r.boots(onOld, func(*guest) {})
	places := []string{"etc/1/fs", "data/var"}
	whole := b.undisturbed(before, places...)
	system := whole.differs(b.asIs(r.state, places...), nil)
	t.Logf("written by the system itself: %q", system)
	outcomes := b.replay("a first boot", before, log, func(at string) (string, error) {
		found, err := partsOf(at, places...)
		if err != nil {
			return "", err
		}
		outcome := "begun"
		if found["data/var"] != nil {
			outcome = "seeded" // and then all of it
			if diff := (parts{"data/var": whole["data/var"]}).differs(found, system); len(diff) > 0 {
				return "", fmt.Errorf("what is kept of /var has its name, and is not what it is to be: %q", diff)
			}
		}
		return outcome, b.endsAs(at, whole, system)
	})
	wantOutcomes(t, outcomes, "begun", "seeded")
}

func TestAPowerCutBehindAnyWriteOfAMergeLeavesAMerge(t *testing.T) {
	t.Parallel()
	old, new := power(t)
	r := recorderOf(t, old, new)
	r.boots(onOld, func(g *guest) { g.run(fiftyLocalPaths) })
	b := benchOf(t, new, "2")
	before, log := r.boots(onNew, func(g *guest) {
		if m := mergeOf(t, g.record(), "/etc"); m.Conflict != 20 || m.Pruned != 10 {
			t.Errorf("the merge is %+v, want 20 conflicts and 10 pruned", m)
		}
	})
	places := []string{"etc/1/fs", "etc/2/fs", "data/var"}
	old1, whole := b.asIs(before, places...), b.undisturbed(before, places...)
	system := whole.differs(b.asIs(r.state, places...), nil)
	t.Logf("written by the system itself: %q", system)
	if len(whole["etc/2/fs"]) < 40 || len(old1["etc/1/fs"]) < 50 {
		t.Fatalf("the uppers have %d and %d entries, which is not what was written", len(old1["etc/1/fs"]), len(whole["etc/2/fs"]))
	}
	outcomes := b.replay("a merge", before, log, func(at string) (string, error) {
		found, err := partsOf(at, places...)
		if err != nil {
			return "", err
		}
		outcome := "on its way"
		switch {
		case found["etc/2/fs"] == nil:
			outcome = "old"
		case len(whole.differs(found, system)) == 0:
			outcome = "new"
		}
		return outcome, b.endsAs(at, whole, system) // with the other deployment as it was
	})
	wantOutcomes(t, outcomes, "old", "on its way", "new")
}

func TestAPowerCutBehindAnyWriteOfAResetLeavesTheOldOrTheNewState(t *testing.T) {
	t.Parallel()
	old, new := power(t)
	r := recorderOf(t, old, new)
	r.boots(onOld, func(g *guest) { g.run(fiftyLocalPaths) })
	b := benchOf(t, old, "1")
	places := []string{"etc/1/fs", "data/var"}
	before, log := r.boots(onOld, func(g *guest) {
		g.run("veneer reset --scope all --keep identity --keep /etc/mine-3 --keep /var/lib/app/3-3")
	})
	was, is := b.asIs(before, places...), b.undisturbed(r.state, places...)
	for _, p := range []string{"mine-3", "mine-4"} {
		if _, kept := is["etc/1/fs"][p]; kept != (p == "mine-3") {
			t.Errorf("a reset that nothing disturbs keeps %s: %t", p, kept)
		}
	}
	oldOrNew := func(at string) (string, error) {
		if err := b.goOn(); err != nil {
			return "", err
		}
		found, err := partsOf(at, places...)
		if err != nil {
			return "", err
		}
		asOld, asNew := was.differs(found, nil), is.differs(found, nil)
		switch {
		case len(asOld) == 0:
			return "old", nil
		case len(asNew) == 0:
			return "new", nil
		}
		return "", fmt.Errorf("a mix: other than the old state in %q, other than the new one in %q", asOld, asNew)
	}
	wantOutcomes(t, b.replay("a reset is filed", before, log, oldOrNew), "old", "new")
	before, log = r.boots(onOld, func(g *guest) {
		if rec := g.record(); len(rec.Requests) != 1 || rec.Requests[0].Error != "" {
			t.Errorf("the requests are %+v", rec.Requests)
		}
	})
	wantOutcomes(t, b.replay("a reset is carried out", before, log, oldOrNew), "new")
}

func TestAPowerCutBehindAnyWriteOfASnapshotOrItsReturnLeavesAllOrNothing(t *testing.T) {
	t.Parallel()
	old, new := power(t)
	r := recorderOf(t, old, new)
	r.boots(onOld, func(g *guest) { g.run(fiftyLocalPaths) })
	b := benchOf(t, old, "1")
	before, log := r.boots(onOld, func(g *guest) { g.run("veneer snapshot one --data") })
	places := []string{"etc/1/fs", "data/var"}
	want := b.asIs(r.state, places...)
	made := b.replay("a snapshot is made", before, log, func(at string) (string, error) {
		listed, err := snapshots(at)
		if err != nil {
			return "", err
		}
		if len(listed) == 0 {
			return "none", b.goOn()
		}
		found, err := partsOf(filepath.Join(at, "snapshots/one"), places...)
		if err != nil {
			return "", err
		}
		if diff := want.differs(found, nil); len(diff) > 0 {
			return "", fmt.Errorf("the snapshot is listed, and differs in %q", diff)
		}
		return "whole", b.goOn()
	})
	wantOutcomes(t, made, "none", "whole")
	r.boots(onOld, func(g *guest) {
		g.run("for n in 0 1 2 3 4 5 6 7 8 9; do rm /etc/mine-$n; echo later > /etc/later-$n; echo later > /var/lib/app/$n-0; done; rm -r /var/lib/seed; veneer snapshot restore one")
	})
	before, log = r.boots(onOld, func(g *guest) { g.holds("/etc/mine-3", "mine") })
	is := b.undisturbed(before, places...)
	if diff := want.differs(is, nil); len(diff) > 0 {
		t.Errorf("a return that nothing disturbs differs from the snapshot in %q", diff)
	}
	back := b.replay("a snapshot comes back", before, log, func(at string) (string, error) { return "back", b.endsAs(at, is, nil) })
	wantOutcomes(t, back, "back")
}

// snapshots are the names of those that a state knows.
func snapshots(at string) (names []string, err error) {
	d, err := state.Open(at)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	all, problems, err := d.Snapshots()
	for _, s := range all {
		names = append(names, s.Name)
	}
	for _, p := range problems {
		err = errors.Join(err, errors.New(p.String()))
	}
	return names, err
}
