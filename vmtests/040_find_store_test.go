package vmtests

// How the store is found, and how it is not.
//
//	machine   q35, 512 MiB
//	disks     as each case says; all write-protected
//	console   the step "find store"; where it fails, each candidate and why it was not taken

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"veneer/vmtests/qemu"
)

func TestTheStoreIsFoundByWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	out := small(t)
	s := out.store(t, "veneer")
	fs := ext4(t, s.dir, label)
	disk := partition(t, fs, `a partition name, with \ and ü`)
	for _, ask := range []string{"LABEL=VENEER", "UUID=" + fsUUID, "UUID=" + strings.ToUpper(fsUUID), "PARTUUID=" + partUUID, "/dev/vda2",
		"/dev/disk/by-label/VENEER", `"veneer.store=PARTLABEL=a partition name, with \ and ü"`} {
		t.Run(ask, func(t *testing.T) {
			t.Parallel()
			word := "veneer.store=" + ask
			if ask[0] == '"' {
				word = ask
			}
			g := start(t, out.vm(t, disk, word))
			g.expect(`find store \.\.\. ok`)
			g.expect(`switch root \.\.\. /`)
		})
	}
}

func TestTheStoreLiesInAnyDirectory(t *testing.T) {
	t.Parallel()
	out := small(t)
	for _, dir := range []string{`a b/c:d,e\f`, "ü/lower=up", ""} {
		t.Run("/"+dir, func(t *testing.T) {
			t.Parallel()
			s := out.store(t, dir)
			g := start(t, out.vm(t, ext4(t, s.dir, label), `"veneer.store=LABEL=VENEER:/`+dir+`"`))
			g.shell()
			if got := g.run("cat /run/veneer/state.json"); !strings.Contains(got, `"degraded": []`) {
				t.Errorf("the boot is degraded:\n%s", got)
			}
			g.leave("poweroff", "poweroff", qemu.PoweredOff)
		})
	}
}

func TestAStoreThatAppearsLateIsFound(t *testing.T) {
	t.Parallel()
	out := small(t)
	vm := out.vm(t, "", "veneer.wait=120")
	vm.Slots = 1
	g := start(t, vm)
	g.expect(`load drivers \.\.\. ok`)
	if err := g.ExpectNone(g.ctx, 5*time.Second, regexp.MustCompile(`FAILED|find store`)); err != nil {
		t.Fatal(err)
	}
	if err := g.Plug(g.ctx, qemu.Disk{Path: out.disk(), Bus: qemu.VirtioBlk, ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	g.expect(`find store \.\.\. ok`)
	g.shell()
	g.leave("poweroff", "poweroff", qemu.PoweredOff)
}

func TestAMissingStoreIsGivenUpInTimeWithEachCandidate(t *testing.T) {
	t.Parallel()
	out := small(t)
	s := out.store(t, "veneer")
	empty := t.TempDir()
	vm := out.vm(t, ext4(t, s.dir, "OTHER"), "veneer.wait=3")
	vm.Disks = append(vm.Disks,
		qemu.Disk{Path: partition(t, ext4(t, empty, "data"), "root"), Bus: qemu.VirtioBlk, ReadOnly: true},
		qemu.Disk{Path: blank(t, "blank.img", 1), Bus: qemu.VirtioBlk, ReadOnly: true})
	g := start(t, vm)
	g.failed("find store", `no device answered to LABEL=VENEER before the deadline \(veneer\.wait=\); candidates, none of which answers: `+
		`/dev/vda: ext4 LABEL="OTHER" .*; /dev/vdb1: nothing known PARTLABEL="empty".*; /dev/vdb2: ext4 LABEL="data" .*; /dev/vdb: .*gpt.*; /dev/vdc: nothing known`)
	g.ends(qemu.Reset)
	const asked, defaultWait = 3 * time.Second, 30 * time.Second
	if took := g.uptime(`FAILED at step`) - g.uptime(`read command line \.\.\. ok`); took < asked || took > defaultWait-asked {
		t.Errorf("the store was given up after %v, want %v and little more", took, asked)
	}
}

func TestNoDiskAtAllIsSaidSo(t *testing.T) {
	t.Parallel()
	g := start(t, small(t).vm(t, "", "veneer.wait=500ms"))
	g.failed("find store", `no device answered to LABEL=VENEER before the deadline \(veneer\.wait=\); no block device appeared: is the driver of its bus in the initramfs\?`)
	g.ends(qemu.Reset)
}

func TestTwinsAreRefusedByName(t *testing.T) {
	t.Parallel()
	out := small(t)
	vm := out.vm(t, out.disk())
	vm.Disks = append(vm.Disks, vm.Disks[0])
	g := start(t, vm)
	g.failed("find store", `more than one device answers to LABEL=VENEER, and choosing one would be luck: /dev/vda: ext4 .*; /dev/vdb: ext4 .*\n.*try: detach one`)
	g.ends(qemu.Reset)
}

func TestAStoreFullOfJunkBoots(t *testing.T) {
	t.Parallel()
	out := small(t)
	s := out.store(t, "veneer")
	for _, name := range []string{"images/x.img", "images/" + strings.Repeat("0", 64) + ".img", "deployments/0", "deployments/01", "deployments/-1",
		"deployments/new\nline", "deployments/2", "deployments/999999999999999999999", "deployments/tmp/manifest.json", "journal", "requests/reset"} {
		s.write(name, []byte("junk\x00\n"))
	}
	g := start(t, out.vm(t, ext4(t, s.dir, label)))
	g.shell()
	if got := g.run("cat /run/veneer/state.json"); !strings.Contains(got, `"degraded": []`) {
		t.Errorf("the boot is degraded:\n%s", got)
	}
	g.leave("poweroff", "poweroff", qemu.PoweredOff)
}

func TestAnotherDeploymentBootsWhenItIsAskedForOrTheDefaultIsLost(t *testing.T) {
	t.Parallel()
	out := small(t)
	for _, c := range []struct {
		name  string
		spoil func(s store)
		words []string
		want  []string // in the status
	}{
		{"asked for", func(store) {}, []string{"veneer.deployment=7"}, []string{`7: asked for on the command line`, `Degraded +no`}},
		{"the pointer is gone", func(s store) { s.remove("default") }, nil, []string{`12: the newest`, `Degraded +YES: .*default cannot be read`}},
		{"the pointer is junk", func(s store) { s.write("default", []byte("../1\n")) }, nil, []string{`12: the newest`, `Degraded +YES: .*default`}},
		{"the pointer names what is not there", func(s store) { s.write("default", []byte("3\n")) }, nil,
			[]string{`12: the newest`, `Degraded +YES: .*deployment 3, which is not there`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := out.store(t, "veneer")
			s.install("7")
			s.install("12")
			c.spoil(s)
			g := start(t, out.vm(t, ext4(t, s.dir, label), c.words...))
			g.shell()
			text := g.run("veneer status")
			for _, want := range c.want {
				if !contains(text, want) {
					t.Errorf("veneer status does not match %q:\n%s", want, text)
				}
			}
		})
	}
	t.Run("one that is not there is refused", func(t *testing.T) {
		t.Parallel()
		out.refuse(t, refusal{words: []string{"veneer.deployment=4"}, step: "choose deployment",
			cause: `deployment 4, asked for on the command line, is not in the store; it holds 1`})
	})
}

func TestAStoreWhoseJournalIsDirtyBootsFromAReadOnlyDevice(t *testing.T) {
	t.Parallel()
	out := small(t)
	disk := ext4(t, out.store(t, "veneer").dir, label)
	must(t, ".", "debugfs", "-w", "-R", "feature needs_recovery", disk)
	g := start(t, out.vm(t, disk))
	g.shell()
	g.leave("poweroff", "poweroff", qemu.PoweredOff)
}

func TestAStoreIsNeverWrittenTo(t *testing.T) {
	t.Parallel()
	out := small(t)
	s := out.store(t, "veneer")
	for _, f := range fileSystems {
		switch f.name {
		case "iso9660", "squashfs":
			continue // nothing could write to them
		case "xfs":
			continue // clears old blocks of its log at each mount, also at a read-only one
		}
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			disk := f.disk(t, s.dir, label)
			before, err := fileDigest(disk)
			if err != nil {
				t.Fatal(err)
			}
			vm := out.vm(t, disk)
			vm.Disks[0].ReadOnly = false
			g := start(t, vm)
			g.shell()
			g.leave("poweroff", "poweroff", qemu.PoweredOff)
			after, err := fileDigest(disk)
			if err != nil {
				t.Fatal(err)
			}
			if before != after {
				t.Errorf("%s: the boot wrote to the store", filepath.Base(disk))
			}
		})
	}
}
