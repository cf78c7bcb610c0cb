package vmtests

// What a boot does when its state is not fit for it.
//
//	machine   q35, 512 MiB, a free slot
//	disks     vda: the store, write-protected; vdb: the state, at fault
//	console   a step that failed, with its cause; or the shell, after a warning

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"veneer/overlay/state"
	"veneer/stage"
	"veneer/vmtests/qemu"
)

func TestEachFaultOfAStateMeetsThePolicy(t *testing.T) {
	t.Parallel()
	out := kept(t)
	for _, c := range []struct {
		name        string
		disk        func(t *testing.T) string // "": none
		step, cause string
	}{
		{"the device is missing", nil, stage.StepFindState, `/dev/vdb`},
		{"the state is of another product", func(t *testing.T) string {
			dir := emptyDir(t)
			at := filepath.Join(dir, "veneer")
			if err := os.Mkdir(at, 0o755); err != nil {
				t.Fatal(err)
			}
			d, err := state.Open(at)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Adopt(state.Owner{Product: "other"}); err != nil {
				t.Fatal(err)
			}
			d.Close()
			return stateDisk(t, dir, 16)
		}, stage.StepPrepareState, `another's: .*other`},
		{"the superblock is zeros", func(t *testing.T) string {
			img := stateDisk(t, emptyDir(t), 16)
			must(t, "", "dd", "if=/dev/zero", "of="+img, "bs=1024", "seek=1", "count=1", "conv=notrunc", "status=none")
			return img
		}, stage.StepFindState, `/dev/vdb`},
		{"there is nothing on it, and nothing is to be made", func(t *testing.T) string { return blank(t, "empty.img", 16) },
			stage.StepPrepareState, `holds no file system, and none is to be made`},
		{"a full disk, and no state on it", func(t *testing.T) string {
			dir := emptyDir(t)
			img := stateDisk(t, dir, 8)
			for _, size := range []string{"4M", "2M", "1M", "512K", "256K", "128K", "64K", "32K", "16K", "8K", "4K", "2K", "1K", "1K", "1K", "1K"} {
				fill(t, img, size)
			}
			return img
		}, stage.StepPrepareState, `(?i)no space left`},
	} {
		for _, policy := range []string{"fail", "wait", "ephemeral"} {
			if policy == "wait" && c.step == stage.StepFindState {
				continue // it waits for ever: TestABootWaitsForAStateThatComesLate
			}
			t.Run(c.name+", "+policy, func(t *testing.T) {
				t.Parallel()
				vm := out.vm(t, out.disk(), "veneer.state=/dev/vdb", "veneer.wait=1", "veneer.missing-upper="+policy)
				if c.disk != nil {
					vm.Disks = append(vm.Disks, qemu.Disk{Path: c.disk(t), Bus: qemu.VirtioBlk})
				}
				g := start(t, vm)
				if policy != "ephemeral" { // what is there and not fit is not worth a wait
					g.failed(c.step, c.cause)
					g.ends(qemu.Reset)
					return
				}
				g.expect(`nothing is kept: the state is in memory`)
				g.shell()
				rec := g.record()
				if rec.State.Kind != stage.StateEphemeral || !contains(rec.State.Why, `(?s)`+c.cause) || len(rec.Degraded) == 0 {
					t.Errorf("the record says %+v, degraded %q; want ephemeral, and why", rec.State, rec.Degraded)
				}
				for _, ask := range []string{"cat /run/motd.d/veneer", "cat /run/issue.d/veneer.issue", "veneer status"} {
					if text, _ := g.try(ask); !contains(text, `(?i)nothing is kept`) {
						t.Errorf("%s does not say that nothing is kept:\n%s", ask, text)
					}
				}
				g.run("echo x > /etc/x; echo x > /var/lib/x")
				g.off()
			})
		}
	}
}

// fill puts a file into an ext4, if there is room for it.
func fill(t *testing.T, img, size string) {
	t.Helper()
	from := filepath.Join(t.TempDir(), size)
	must(t, "", "truncate", "-s", size, from)
	must(t, "", "sh", "-c", "tr '\\0' x <"+from+" >"+from+".x")
	must(t, "", "debugfs", "-w", "-R", "write "+from+".x fill"+filepath.Base(filepath.Dir(from))+size, img)
}

// The disk that is there does not answer to the name, since nobody can read its superblock.
func TestABootWaitsForAStateThatComesLate(t *testing.T) {
	t.Parallel()
	out := kept(t)
	vm := out.vm(t, out.disk(), "veneer.state=LABEL=STATE", "veneer.wait=1", "veneer.missing-upper=wait")
	vm.Slots = 1
	broken := stateDisk(t, emptyDir(t), 16)
	must(t, "", "dd", "if=/dev/zero", "of="+broken, "bs=1024", "seek=1", "count=1", "conv=notrunc", "status=none")
	vm.Disks = append(vm.Disks, qemu.Disk{Path: broken, Bus: qemu.VirtioBlk})
	g := start(t, vm)
	g.expect(`mount images \.\.\. ok`)
	time.Sleep(5 * time.Second)
	g.never(`FAILED`)
	if err := g.Plug(g.ctx, qemu.Disk{Path: stateDisk(t, emptyDir(t), 16), Bus: qemu.VirtioBlk}); err != nil {
		t.Fatal(err)
	}
	g.shell()
	if rec := g.keepsAll(); rec.State.Reference != "LABEL=STATE" {
		t.Errorf("the state is %+v, want LABEL=STATE", rec.State)
	}
	g.off()
}

// An upper that cannot be mounted stops no machine that is to go on without, and whoever is told a way out can take it.
func TestRulesThatCannotBeMountedLeaveWaysOutThatBoot(t *testing.T) {
	t.Parallel()
	out := kept(t)
	disk := copied(t, out.disk())
	g := out.machineOn(t, disk).boot()
	g.keepsAll()
	g.run("echo mine > /etc/mine; echo mine > /var/lib/mine; cd /run/veneer/state/etc/1 && mv work was && echo x > work; cd /; sync")
	g.off()

	g = start(t, out.machineOn(t, copied(t, disk)).vm)
	g.failed(stage.StepRules, `etc/1/work`)
	g.ends(qemu.Reset)
	ways := regexp.MustCompile(`try: .*: (veneer\.[a-z-]+=[a-z]+)`).FindAllStringSubmatch(unwrap(g.String()), -1)
	if len(ways) != 2 {
		t.Fatalf("the console names %q, want two parameters", ways)
	}
	for _, way := range ways {
		t.Run(way[1], func(t *testing.T) {
			t.Parallel()
			m := out.machineOn(t, copied(t, disk))
			g := m.boot(way[1])
			rec := g.record()
			g.holds("/etc/mine", "")
			if way[1] != "veneer.missing-upper=ephemeral" {
				if rec.State.Kind != stage.StatePersistent || len(rec.Degraded) > 0 {
					t.Errorf("state %+v, degraded %q", rec.State, rec.Degraded)
				}
				g.run("veneer undo --dry-run")
				g.off()
				m.boot().off()
				return
			}
			if rec.State.Kind != stage.StateEphemeral || !contains(rec.State.Why, `etc/1/work`) {
				t.Errorf("the state is %+v, want one in memory, and why", rec.State)
			}
			for _, ask := range []string{"cat /run/motd.d/veneer", "veneer status"} {
				if text, _ := g.try(ask); !contains(text, `nothing is kept`) {
					t.Errorf("%s does not say that nothing is kept:\n%s", ask, text)
				}
			}
			if !contains(unwrap(g.String()), `degraded: nothing is kept`) {
				t.Error("the console does not say that nothing is kept")
			}
			g.off()
		})
	}
}

func TestAStateWithoutAByteOfRoomBootsAndIsCleared(t *testing.T) {
	t.Parallel()
	out := kept(t)
	m := out.machineOn(t, copied(t, out.disk()), stateDisk(t, emptyDir(t), 24))
	const where = "veneer.state=/dev/vdb"
	g := m.boot(where)
	g.keepsAll()
	g.run("echo kept > /etc/kept")
	if text, code := g.try("dd if=/dev/zero of=/var/fill bs=1048576 count=100; sync"); !contains(text, `(?i)no space left`) {
		t.Errorf("filling the state ended with code %d, want ENOSPC: %s", code, text)
	}
	g.try("dd if=/dev/zero of=/var/fill2 bs=1024 count=2000; sync")
	g.run("sync")
	g.cut()
	g = m.boot(where)
	if rec := g.record(); rec.State.Kind != stage.StatePersistent || len(rec.Degraded) == 0 || rec.Degraded[0].What != "the state is full" {
		t.Errorf("state %+v, degraded %q; want a persistent one that is full", rec.State, rec.Degraded)
	}
	g.holds("/etc/kept", "kept")
	g.run("veneer status")
	g.run("veneer reset --scope data")
	g.run("sync")
	g.cut()
	g = m.boot(where)
	rec := g.record()
	if len(rec.Requests) != 1 || rec.Requests[0].Error != "" {
		t.Errorf("requests: %+v, want one that went well; degraded %q", rec.Requests, rec.Degraded)
	}
	g.holds("/etc/kept", "kept")
	if _, code := g.try("test -e /var/fill"); code == 0 {
		t.Error("/var/fill is still there after veneer reset --scope data")
	}
	g.off()
}

// TestThePowerFailsAtAnyInstantOfTheFirstBoot cuts it behind each step of the state, and within them.
func TestThePowerFailsAtAnyInstantOfTheFirstBoot(t *testing.T) {
	t.Parallel()
	out := kept(t)
	type instant struct {
		behind string
		after  time.Duration
	}
	var instants []instant
	for _, step := range []string{stage.StepMountImages, stage.StepFindState, stage.StepPrepareState, stage.StepUppers, stage.StepStackRoot, stage.StepRules, stage.StepHandOver} {
		instants = append(instants, instant{step, 0})
	}
	for i := 1; i <= 10; i++ {
		instants = append(instants, instant{stage.StepFindState, time.Duration(i) * 50 * time.Millisecond})
	}
	store := out.disk()
	outcomes := map[string]int{}
	for _, at := range instants {
		m := out.machineOn(t, copied(t, store))
		g := m.start()
		g.expect(at.behind + ` \.\.\. ok`)
		time.Sleep(at.after)
		g.cut()
		done := "before the root was stacked"
		if contains(g.String(), `stack root \.\.\. ok`) {
			done = "after the root was stacked"
		}
		if contains(g.String(), `apply rules \.\.\. ok`) {
			done = "after the rules were applied"
		}
		g = m.boot()
		rec := g.record()
		if rec.State.Kind != stage.StatePersistent || len(rec.Degraded) > 0 {
			t.Errorf("cut %v behind %q: state %+v, degraded %q", at.after, at.behind, rec.State, rec.Degraded)
		}
		g.run("echo x > /etc/x; echo x > /var/lib/x; test -d /var/log; test -d /var/lib; cat /etc/hostname")
		g.off()
		outcomes[done]++
	}
	t.Logf("%d power cuts, each followed by a whole boot: %v", len(instants), outcomes)
}
