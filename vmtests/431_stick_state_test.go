package vmtests

// A stick with an ISO on it that keeps a state behind it, over three boots and a newer ISO.
//
//	machine   q35, 512 MiB, SeaBIOS; no kernel from outside
//	disks     vda: a file of 384 MiB that `veneer write` wrote the ISO to; the last boot sees the ISO itself, write-protected
//	base      the small base with mke2fs and e2fsck of this host
//	console   the boot loader, then the steps of a state and the shell of each boot

import (
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"veneer/vmtests/qemu"
)

// smallWithE2fsprogs is the small base and what it takes to make an ext4.
func smallWithE2fsprogs(t *testing.T) string {
	t.Helper()
	base := smallTree(t, "amd64")
	return shared.make(t, "small base with e2fsprogs", func() (string, error) {
		path := filepath.Join(shared.scratch, "e2fsprogs.tar")
		args := []string{"--owner=0", "--group=0", "--numeric-owner", "--dereference", "--no-recursion", "--mtime=@1700000000", `--transform=s,^\(sbin\|lib\)/,usr/\1/,`, "-C", "/", "-rf", path}
		for _, program := range []string{"/sbin/mkfs.ext4", "/sbin/e2fsck"} {
			libraries, err := tool(t.Context(), "", "ldd", program)
			if err != nil {
				return "", err
			}
			args = append(args, program[1:])
			for _, m := range regexp.MustCompile(`/(lib\S*)`).FindAllStringSubmatch(libraries, -1) {
				if !slices.Contains(args, m[1]) { // both programs have most of theirs in common
					args = append(args, m[1])
				}
			}
		}
		if _, err := tool(t.Context(), "", "cp", base, path); err != nil {
			return "", err
		}
		_, err := tool(t.Context(), "", "tar", args...)
		return path, err
	})
}

// stickISO is that as an ISO with a state on the stick.
func stickISO(t *testing.T, name, more string) output {
	t.Helper()
	r := smallRecipe(t, name, `outputs = ["iso"]`)
	r.toml += `[boot]
cmdline = "console=ttyS0 panic=-1"
firmware = ["bios"]
[state]
place = "PARTLABEL=state"
create = true
missing = "ephemeral"
[[rules]]
path = "/var"
action = "persist"
` + more
	r.files["base.tar"] = smallWithE2fsprogs(t)
	if more != "" {
		r.files["more.tar"] = archive(t, name, file{"newer", "yes"})
	}
	return outputOf(t, r)
}

func TestAStickKeepsItsStateOverBootsAndANewerISO(t *testing.T) {
	t.Parallel()
	first := stickISO(t, "stick-1", "")
	second := stickISO(t, "stick-2", "[[layers]]\nname = \"more\"\nsource = \"more.tar\"\n")
	stick := onStick(t, first.file("disk.iso"), 384<<20)
	vm := fromFirmware(t, stick, "", false)
	vm.Disks[0].Snapshot = false
	boot := func(vm qemu.VM) *guest {
		t.Helper()
		g := start(t, vm)
		g.shell()
		return g
	}
	whole := func() {
		t.Helper()
		if said := must(t, "", "sfdisk", "--verify", stick); !contains(said, `No errors detected`) {
			t.Errorf("sfdisk: %s", said)
		}
	}

	g := boot(vm)
	g.keepsAll()
	g.run("echo one > /var/one; sync")
	g.cut()
	whole()

	g = boot(vm)
	g.keepsAll()
	g.holds("/var/one", "one")
	g.run("echo two > /var/two; sync")
	g.cut()

	writeTo(t, stick, second.file("disk.iso"), "--keep-state")
	whole()
	g = boot(vm)
	g.keepsAll()
	g.holds("/newer", "yes")
	g.holds("/var/one", "one")
	g.holds("/var/two", "two")
	g.cut()

	// Write-protected, as a CD is, nothing can be made: the policy of the image counts, and it is said.
	vm.Disks[0] = qemu.Disk{Path: first.file("disk.iso"), Bus: qemu.VirtioBlk, ReadOnly: true}
	g = boot(vm)
	if got, _ := g.try("veneer status"); !contains(got, `(?i)read-only`) || !contains(got, `(?i)ephemeral|memory`) {
		t.Errorf("it does not say that nothing is kept, and why:\n%s", got)
	}
	g.cut()
}
