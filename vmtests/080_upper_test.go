package vmtests

// The writable layer at its limits.
//
//	machine   q35, 512 MiB, or 256 MiB where the case says so
//	disks     vda: the output's store, write-protected
//	console   the shell of the base, which fills the upper and lives on

import (
	"testing"

	"veneer/vmtests/qemu"
)

func TestAFullUpperGivesENOSPCAndTheSystemLives(t *testing.T) {
	t.Parallel()
	out := small(t)
	for _, c := range []struct {
		name   string
		memory int
		words  []string
	}{
		{"a size that was asked for", 512, []string{"veneer.upper=tmpfs:size=32M"}},
		{"half of the memory, as the manifest says", 256, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			vm := out.vm(t, out.disk(), c.words...)
			vm.MemoryMiB = c.memory
			g := start(t, vm)
			g.shell()
			text, code := g.try("dd if=/dev/zero of=/var/fill bs=1048576 count=400")
			if code == 0 || !contains(text, `(?i)no space left`) {
				t.Errorf("filling the upper ended with code %d, want ENOSPC:\n%s", code, text)
			}
			if free := g.run("df /run/veneer/upper/"); !contains(free, `100%`) {
				t.Logf("the upper is not quite full:\n%s", free)
			}
			g.run("veneer status")
			g.run("rm /var/fill")
			g.run("touch /var/after")
			if shows := g.run("dmesg"); contains(shows, `(?i)out of memory|oom-kill|invoked oom`) {
				t.Errorf("the kernel ran out of memory:\n%s", shows)
			}
			g.leave("poweroff", "poweroff", qemu.PoweredOff)
		})
	}
}

func TestAnUpperLargerThanTheMemoryIsRefused(t *testing.T) {
	t.Parallel()
	small(t).refuse(t, refusal{words: []string{"veneer.upper=tmpfs:size=8G"}, step: "stack root",
		cause: `tmpfs upper of 8G is larger than the \d+ MiB of RAM: it would end in the OOM killer`})
}

func TestAReadOnlyRootIsReadOnly(t *testing.T) {
	t.Parallel()
	out := small(t)
	g := start(t, out.vm(t, out.disk(), "ro"))
	g.shell()
	if text, code := g.try("touch /etc/x"); code == 0 || !contains(text, `(?i)read-only file system`) {
		t.Errorf("writing to a read-only root ended with code %d:\n%s", code, text)
	}
	g.run("touch /run/x")
	g.leave("poweroff", "poweroff", qemu.PoweredOff)
}
