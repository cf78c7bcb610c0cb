package vmtests

// What the init does to real disks for a state: partitions, file systems, LUKS. A program of ours stands in the place of the
// init, in the initramfs of a Debian that holds the tools.
//
//	machine   q35, 1024 MiB, a TPM 2.0 (swtpm)
//	disks     vda: GPT with the store, and 512 MiB free behind it; vdb: vfat with a key file; vdc to vdg: empty, 64 MiB, to be
//	          encrypted; vdh: vfat, vdj: exfat, 300 MiB, for a state file; vdi: empty, 512 MiB, for btrfs and xfs
//	console   "disktest: WHAT ok" for each thing done, and questions for a passphrase

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/u-root/mkuimage/cpio"

	"veneer/vmtests/disks"
	"veneer/vmtests/qemu"
)

// debianState is the demo with the tools for a state.
func debianState(t *testing.T) output {
	t.Helper()
	toml := read(t, filepath.Join(shared.root, "examples/debian/veneer.toml"))
	toml = replaced(t, toml, "../../out/debian.tar", "debian.tar")
	toml = replaced(t, toml, "../../out/demo.key", "test.key")
	return outputOf(t, recipe{"debian-state", string(toml), map[string]string{"debian.tar": debianStateTree(t), "test.key": testKey(t, "test")}})
}

// withInit returns the initramfs of the output with a program of the tree in the place of the init: a second archive behind the
// first, of which the kernel takes what it holds anew.
func (o output) withInit(t *testing.T, pkg string) string {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "init")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", "purego", "-ldflags", "-s -w", "-o", program, pkg)
	cmd.Dir, cmd.Env = shared.root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	var b bytes.Buffer
	b.Write(read(t, o.file("initramfs.cpio.zst")))
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
	w := cpio.Newc.Writer(&b)
	if err := cpio.WriteRecords(w, []cpio.Record{cpio.StaticFile("init", string(read(t, program)), 0o755)}); err != nil {
		t.Fatal(err)
	}
	if err := cpio.WriteTrailer(w); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "initramfs")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// tpm starts a TPM for one boot, whose state lies in dir, and returns its control socket.
func tpm(t *testing.T, dir string) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "tpm")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--ctrl", "type=unixio,path="+socket, "--terminate")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for range 1000 {
		if _, err := os.Stat(socket); err == nil {
			return socket
		}
		_ = exec.Command("sleep", "0.01").Run()
	}
	t.Fatal("swtpm makes no socket")
	return ""
}

func TestTheStateLivesOnRealDisks(t *testing.T) {
	t.Parallel()
	out := debianState(t)
	initrd := out.withInit(t, "./vmtests/diskinit")
	store := filepath.Join(t.TempDir(), "store.img")
	if err := disks.Partition(store, disks.Part{Name: "store", Image: out.disk()}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(store)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(store, info.Size()+512<<20); err != nil {
		t.Fatal(err)
	}
	keys := t.TempDir()
	if err := os.MkdirAll(filepath.Join(keys, "keys"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(keys, "keys/state.key"), noise(64), 0o600); err != nil {
		t.Fatal(err)
	}
	paths := []string{store, disk(t, disks.FileSystem{Type: "vfat", Label: "KEYS"}, keys)}
	for range 5 {
		paths = append(paths, blank(t, "blank.img", 64))
	}
	usb := blank(t, "stick.img", 300)
	must(t, "", "mkfs.vfat", "-n", "STICK", usb)
	exfat := blank(t, "exfat.img", 300)
	must(t, "", "mkfs.exfat", "-n", "EXSTICK", exfat)
	paths = append(paths, usb, blank(t, "larger.img", 512), exfat)
	state, foreign := t.TempDir(), t.TempDir()
	boot := func(what, tpmState string) *guest {
		t.Helper()
		vm := out.vm(t, "", "disktest="+what, "quiet", "loglevel=3")
		vm.Initrd, vm.MemoryMiB, vm.TPM = initrd, 1024, tpm(t, tpmState)
		for i, p := range paths {
			vm.Disks = append(vm.Disks, qemu.Disk{Path: p, Bus: qemu.VirtioBlk, ReadOnly: i == 1})
		}
		return start(t, vm)
	}
	ended := func(g *guest, want ...string) {
		t.Helper()
		g.expect(`disktest: end`)
		g.ends(qemu.PoweredOff)
		for _, w := range want {
			if !contains(g.String(), `disktest: `+w+` ok`) {
				t.Errorf("not done: %s", w)
			}
		}
		g.never(`FAILED.*`, `the tiger.*`)
		for line := range strings.Lines(g.String()) {
			if strings.HasPrefix(line, "disktest: ") {
				t.Log(strings.TrimSpace(line))
			}
		}
	}

	g := boot("make", state)
	g.expect(`New passphrase for /dev/vdf: `)
	g.send("the tiger sleeps")
	g.expect(`The same again: `)
	g.send("the tiger wakes")
	g.expect(`New passphrase for /dev/vdf: `)
	g.send("the tiger sleeps")
	g.expect(`The same again: `)
	g.send("the tiger sleeps")
	ended(g, "make a partition on the disk of the mounted store", "grow partition and ext4 while mounted", "a state file on a vfat stick",
		"a state file on an exfat stick", "btrfs and xfs with the tools of the base",
		"encrypt for by-key", "encrypt for by-tpm-and-key", "encrypt for by-tpm", "encrypt for by-person", "encrypt for by-nobody")
	if said := must(t, "", "sfdisk", "--verify", store); !strings.Contains(said, "No errors detected") {
		t.Errorf("sfdisk --verify: %s", said)
	}

	g = boot("open", state)
	g.expect(`Passphrase for /dev/vdf \(1 of 3\): `)
	g.send("the tiger wakes")
	g.expect(`Passphrase for /dev/vdf \(2 of 3\): `)
	g.send("the tiger sleeps")
	ended(g, "unlock by-key", "unlock by-tpm-and-key", "unlock by-tpm", "unlock by-person", "a random key forgets", "a random key destroys nothing else")

	g = boot("other", foreign)
	for _, n := range []string{"1", "2", "3"} {
		g.expect(`Passphrase for /dev/vdf \(` + n + ` of 3\): `)
		g.send("the tiger wakes")
	}
	ended(g, "the key file opens what this TPM does not", "this TPM opens nothing", "a wrong passphrase opens nothing")
}
