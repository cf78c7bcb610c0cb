package vmtests

// The power fails while the init works in a state: during a merge of /etc, a reset, the return of a snapshot. The boot behind it
// must come up, and with the whole of the new state, since what was begun is ended. What each single write to the disk leaves is
// looked at in 270_replay_test.go.
//
//	machine   q35, 512 MiB
//	disks     vda: a store with two deployments, write-protected; vdb: the state
//	console   a boot that is cut short, and one that is not

import (
	"testing"
	"time"

	"veneer/stage"
	"veneer/vmtests/qemu"
)

func TestThePowerFailsDuringAMergeAResetAndTheReturnOfASnapshot(t *testing.T) {
	t.Parallel()
	old, new := power(t)
	store := both(t, old, new)
	machineOf := func(t *testing.T, state string) machine {
		vm := old.vm(t, store, "veneer.state=/dev/vdb")
		vm.Disks = append(vm.Disks, qemu.Disk{Path: state, Bus: qemu.VirtioBlk})
		return machine{t, vm}
	}
	after := func(t *testing.T, disk, command string) string {
		t.Helper()
		disk = copied(t, disk)
		g := machineOf(t, disk).boot(onOld)
		g.keepsAll()
		g.run(command)
		g.off()
		return disk
	}
	local := after(t, stateDisk(t, emptyDir(t), 24), fiftyLocalPaths)
	for name, c := range map[string]struct {
		disk     string
		words    string
		behind   string            // the step that the cut is behind
		want     map[string]string // in /etc
		variable string            // /var/lib/app/3-3
	}{
		"a merge": {local, onNew, stage.StepRequests, map[string]string{"both-0": "mine", "both-9": "mine", "both-0.new": "new", "both-9.new": "new", "local-9": "mine",
			"deleted-9": "", "deleted-9.new": "new", "same-9": "new", "mine-9": "mine", "base-9": "new"}, "3"},
		"a reset": {after(t, local, "veneer reset --scope all --keep /etc/mine-3"), onOld, stage.StepPrepareState,
			map[string]string{"both-0": "old", "local-9": "old", "deleted-9": "old", "same-9": "old", "mine-3": "mine", "mine-9": ""}, ""},
		"a snapshot": {after(t, local, "veneer snapshot one --data; rm /etc/mine-9; echo later > /etc/both-0; echo later > /var/lib/app/3-3; veneer snapshot restore one"),
			onOld, stage.StepPrepareState, map[string]string{"both-0": "mine", "both-9": "mine", "deleted-9": "", "mine-9": "mine"}, "3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cuts, midst := 0, 0
			for _, wait := range []time.Duration{0, 150, 300, 500} {
				m := machineOf(t, copied(t, c.disk))
				g := m.start(c.words)
				g.expect(c.behind + ` \.\.\. ok`)
				time.Sleep(wait * time.Millisecond)
				g.cut()
				if cuts++; !contains(g.String(), `stack root \.\.\. ok`) {
					midst++
				}
				g = m.boot(c.words)
				g.keepsAll()
				for path, text := range c.want {
					g.holds("/etc/"+path, text)
				}
				g.holds("/var/lib/app/3-3", c.variable)
				g.holds("/var/lib/seed/a", "seed")
				g.off()
			}
			t.Logf("%d power cuts, %d of them before the root was stacked, each followed by a whole boot", cuts, midst)
		})
	}
}
