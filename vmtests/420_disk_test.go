package vmtests

// A new version on the disk of a machine that firmware starts: `veneer install` renews the EFI system partition, the menu counts the tries
// of what is new, a bless ends the count, and what nobody blesses gives way to what was there.
//
//	machine   q35, 512 MiB, OVMF with a file for its variables; no kernel from outside
//	disks     vda: the output's disk.img with a menu, writable; vdb: ext4 with the next version, the command and modules for FAT
//	console   the firmware, then the shell of each of three boots

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"veneer/vmtests/qemu"
)

// counted is the small base whose UKI a menu tries once. word is on its command line.
func counted(t *testing.T, version, word string) output {
	t.Helper()
	outputs := map[string]string{"1": `outputs = ["uki", "disk"]`, "2": `outputs = ["uki"]`}[version]
	r := smallRecipe(t, "counted-"+version, outputs)
	r.toml = strings.Replace(r.toml, `version = "1.2"`, `version = "`+version+`"`, 1) +
		"[boot]\ncmdline = \"console=ttyS0 panic=-1 " + word + "\"\nmenu = true\ntries = 1\nfirmware = [\"uefi\"]\n"
	return outputOf(t, r)
}

// kit is a directory with what a guest of the small base needs to write to its own EFI system partition: the command, and the modules
// of its kernel that systems with modprobe load by themselves.
func kit(t *testing.T, kernel string) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", filepath.Join(dir, "veneer"), "./cmd/veneer")
	build.Dir, build.Env = shared.root, append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	tree := t.TempDir()
	must(t, tree, "sh", "-c", `dpkg-deb --fsys-tarfile "$0" | tar -x --wildcards './lib/modules/*/kernel/fs/fat/*' './lib/modules/*/kernel/fs/nls/*' './lib/modules/*/kernel/fs/efivarfs/*'`, kernel)
	for _, name := range []string{"fat/fat", "fat/vfat", "nls/nls_cp437", "nls/nls_ascii", "efivarfs/efivarfs"} {
		found, err := filepath.Glob(filepath.Join(tree, "lib/modules/*/kernel/fs", name+".ko"))
		if err != nil || len(found) != 1 {
			t.Fatalf("the module %s: %v %v", name, found, err)
		}
		if err := os.Rename(found[0], filepath.Join(dir, filepath.Base(found[0]))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "busybox"), read(t, "/bin/busybox"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// hasKit mounts the second disk and loads the modules.
func (g *guest) hasKit() {
	g.t.Helper()
	g.run("mkdir -p /tmp/kit && mount -t ext4 -o ro /dev/vdb /tmp/kit")
	for _, name := range []string{"fat", "vfat", "nls_cp437", "nls_ascii", "efivarfs"} {
		g.run("/tmp/kit/busybox insmod /tmp/kit/" + name + ".ko")
	}
}

// replacesOnFAT has two versions follow each other where firmware starts the UKI itself, so that the kernel's vfat exchanges the two.
func (g *guest) replacesOnFAT() {
	g.t.Helper()
	const box = "/tmp/kit/busybox "
	g.run("mkdir -p /tmp/fat /tmp/store && " + box + "truncate -s 64M /tmp/fat.img && " + box + "mkdosfs /tmp/fat.img")
	g.run(box + "mount -t vfat -o loop /tmp/fat.img /tmp/fat")
	for _, out := range []string{"former", "out"} {
		g.run("/tmp/kit/veneer install --esp /tmp/fat /tmp/kit/" + out + " /tmp/store")
		g.run("cmp /tmp/kit/" + out + "/uki.efi /tmp/fat/EFI/BOOT/BOOTX64.EFI")
	}
	g.run("cmp /tmp/kit/former/uki.efi /tmp/fat/EFI/Linux/small-1.efi")
	if left := g.run(box + "find /tmp/fat -name '.new-*'"); left != "" {
		g.t.Errorf("%s is left", left)
	}
	g.run(box + "umount /tmp/fat")
}

// entries are the names of the menu's entries on a disk.
func entries(t *testing.T, disk string) string {
	t.Helper()
	found := must(t, shared.root, command(t), "inspect", "--json", disk)
	var names []string
	for line := range strings.Lines(found) {
		if _, name, ok := strings.Cut(line, `"path": "/EFI/Linux/`); ok {
			names = append(names, strings.TrimSuffix(strings.TrimSpace(name), `",`))
		}
	}
	return strings.Join(names, " ")
}

func TestAnInstallationRenewsWhatFirmwareStartsAndFallsBack(t *testing.T) {
	t.Parallel()
	old, fresh := counted(t, "1", "word=old"), counted(t, "2", "word=new")
	dir := kit(t, kernelDeb(t, "amd64", "cloud"))
	for name, out := range map[string]output{"former": old, "out": fresh} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(out.dir)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "former/disk.img")); err != nil { // it would take mtools to look into
		t.Fatal(err)
	}
	img := copied(t, old.file("disk.img"))
	if got := entries(t, img); got != "small-1+1.efi" {
		t.Fatalf("the disk begins with the entries %q", got)
	}
	vm := fromFirmware(t, img, filepath.Join(t.TempDir(), "vars"), false)
	vm.Disks[0].Snapshot = false
	vm.Disks = append(vm.Disks, qemu.Disk{Path: ext4(t, dir, "KIT"), Bus: qemu.VirtioBlk, ReadOnly: true})

	g := start(t, vm)
	g.shell()
	g.hasKit()
	if said := g.run("veneer bless --dry-run"); !contains(said, `EFI/Linux/small-1\.efi`) {
		t.Errorf("veneer bless --dry-run does not tell of the entry:\n%s", said)
	}
	if said := g.run("veneer bless"); !contains(said, `No longer counted by the boot loader: EFI/Linux/small-1\.efi`) || !contains(said, `This boot is good`) {
		t.Errorf("veneer bless does not end the count:\n%s", said)
	}
	g.run("veneer bless") // once more changes nothing
	g.run("/tmp/kit/busybox mount -o remount,rw /run/initramfs/veneer/store")
	dry := g.run("/tmp/kit/veneer install --dry-run /tmp/kit/out /run/initramfs/veneer/store")
	if !contains(dry, `esp +/dev/vda1, .*EFI/Linux/small-2\+1\.efi`) {
		t.Errorf("the partition was not found, or another name is planned:\n%s", dry)
	}
	said := g.run("/tmp/kit/veneer install /tmp/kit/out /run/initramfs/veneer/store")
	if !contains(said, `former +EFI/Linux/small-1\.efi`) || !contains(said, `installed +small 2 as deployment 2`) {
		t.Errorf("the installation says:\n%s", said)
	}
	g.replacesOnFAT()
	g.leave("reboot", "reboot", qemu.Reset)
	if got := entries(t, img); got != "small-1.efi small-2+1.efi" {
		t.Errorf("after the installation the entries are %q", got)
	}

	g = start(t, vm) // the one try of the new one, which nobody blesses
	g.shell()
	if line, status := g.run("cat /proc/cmdline"), g.run("veneer status"); !contains(line, `word=new`) || !contains(status, `small 2 `) {
		t.Errorf("the new version does not boot with its own command line: %s\n%s", line, status)
	}
	g.leave("reboot", "reboot", qemu.Reset)
	if got := entries(t, img); got != "small-1.efi small-2+0-1.efi" {
		t.Errorf("after the try the entries are %q", got)
	}

	g = start(t, vm)
	g.shell()
	if line := g.run("cat /proc/cmdline"); !contains(line, `word=old`) {
		t.Errorf("the entry without tries is started once more: %s", line)
	}
	g.leave("poweroff", "poweroff", qemu.PoweredOff)

	must(t, shared.root, command(t), "verify", "--key", strings.TrimSuffix(testKey(t, "test"), ".key")+".pub", img)
	isSound(t, img)
}

// isSound asks the tools of others whether table and EFI system partition of a raw disk are whole.
func isSound(t *testing.T, img string) {
	t.Helper()
	if said := must(t, shared.root, "sfdisk", "--verify", img); !contains(said, `No errors`) {
		t.Errorf("sfdisk --verify: %s", said)
	}
	esp := filepath.Join(t.TempDir(), "esp.img")
	start, size := espAt(t, img)
	content := read(t, img)[start : start+size]
	if err := os.WriteFile(esp, content, 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, shared.root, "fsck.fat", "-n", esp)
}

// espAt is where the first partition of a raw disk lies.
func espAt(t *testing.T, img string) (start, size int64) {
	t.Helper()
	table := must(t, shared.root, "sfdisk", "-d", img)
	for line := range strings.Lines(table) {
		if _, rest, ok := strings.Cut(line, "start="); ok {
			fields := strings.Split(strings.ReplaceAll(rest, " ", ""), ",")
			start = atoi(t, fields[0]) * 512
			return start, atoi(t, strings.TrimPrefix(fields[1], "size=")) * 512
		}
	}
	t.Fatalf("no partition in %s", table)
	return 0, 0
}

func atoi(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
