package vmtests

// An encrypted state from its first boot to a reset that destroys its key, and states in places that a boot has to make.
//
//	machine   q35, 1024 MiB, in some cases a TPM 2.0 (swtpm)
//	disks     vda: the store in a GPT with room behind it, writable; vdb: vfat with a key file
//	base      Debian with the tools for a state, and a shell as its init
//	console   the steps of a state, then the shell, which writes here and there

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"veneer/overlay/state"
	"veneer/stage"
	"veneer/vmtests/disks"
)

// made is the Debian with a state that its first boot makes on the store's disk; more says how it is encrypted.
func made(t *testing.T, name, more string) output {
	t.Helper()
	return outputOf(t, recipe{name, `name = "debian"
version = "12"
source = "debian.tar"
[state]
place = "PARTLABEL=state"
create = true
size = "96M"
` + more + `
[[rules]]
path = "/srv"
action = "persist"
[keys]
secret = "test.key"
[allow]
losses = ["acl"]
`, map[string]string{"debian.tar": debianStateTree(t), "test.key": testKey(t, "test")}})
}

// roomy is the output's store as a partition, with room for a state behind it.
func (o output) roomy(t *testing.T) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "roomy.img")
	if err := disks.Partition(img, disks.Part{Name: "store", Image: o.disk()}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(img)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, info.Size()+512<<20); err != nil {
		t.Fatal(err)
	}
	return img
}

// keyDisk is a vfat with a key file.
func keyDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "state.key"), noise(64), 0o600); err != nil {
		t.Fatal(err)
	}
	return disk(t, disks.FileSystem{Type: "vfat", Label: "KEYS"}, dir)
}

// plain boots the machine to a shell that is PID 1.
func (m machine) plain(words ...string) *guest {
	m.t.Helper()
	g := m.begun(words...)
	g.expect(g.prompt)
	g.run("echo 1 > /proc/sys/kernel/printk")
	return g
}

func (m machine) begun(words ...string) *guest {
	m.t.Helper()
	m.vm.MemoryMiB = 1024
	g := m.start(append([]string{"init=/bin/sh"}, words...)...)
	g.prompt = `(?m:^# )`
	return g
}

// encrypted checks that the state is, and that a secure reset destroys its key.
func (g *guest) encrypted() stage.Record {
	g.t.Helper()
	rec := g.keepsAll()
	if !contains(rec.State.Device, `^/dev/dm-`) || rec.State.Secure != state.SecureDestroy {
		g.t.Errorf("state %+v; want an encrypted one that a secure reset destroys", rec.State)
	}
	return rec
}

// headOf is what the partition of the state begins with, on the host: the header of LUKS with its keys.
func headOf(t *testing.T, img string) []byte {
	t.Helper()
	out := must(t, "", "sfdisk", "--json", img)
	m := regexp.MustCompile(`"start": *(\d+),[^}]*"name": *"state"`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no partition is called state:\n%s", out)
	}
	var sector int64
	fmt.Sscan(m[1], &sector)
	f, err := os.Open(img)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 16<<20)
	if _, err := f.ReadAt(b, sector*512); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestASecureResetOfAnEncryptedStateLeavesNothingThatItsKeyOpens(t *testing.T) {
	t.Parallel()
	out := made(t, "secure-key", "unlock = \"key-file\"\nkey-file = \"LABEL=KEYS:/state.key\"")
	img := out.roomy(t)
	m := out.machineOn(t, img, keyDisk(t))
	g := m.plain()
	g.encrypted()
	g.run("echo secret > /srv/kept; echo secret > /etc/kept; sync")
	g.cut()
	first := headOf(t, img)

	g = m.plain()
	g.encrypted()
	g.holds("/srv/kept", "secret")
	g.holds("/etc/kept", "secret")
	for _, ask := range []string{"veneer reset --secure --scope etc", "veneer reset --secure --keep identity"} {
		if text, code := g.try(ask); code != 1 || !contains(text, `for all of it or not at all`) {
			t.Errorf("%s ended with code %d: %s", ask, code, text)
		}
	}
	if text := g.run("veneer reset --secure --dry-run"); !contains(text, `(?s)The next boot would wipe:.*key of the state is destroyed`) {
		t.Errorf("a dry run does not say that the key goes:\n%s", text)
	}
	if text := g.run("veneer reset --secure"); !contains(text, `key of the state is destroyed`) {
		t.Errorf("veneer reset --secure does not say what it means:\n%s", text)
	}
	g.run("sync")
	g.cut()

	g = m.plain()
	rec := g.encrypted()
	if len(rec.Requests) != 1 || rec.Requests[0].Outcome != state.Destroyed {
		t.Errorf("requests %+v, want one that destroyed the key", rec.Requests)
	}
	g.holds("/srv/kept", "")
	g.holds("/etc/kept", "")
	if text := g.run("veneer journal"); !contains(text, `destroyed`) {
		t.Errorf("the journal does not tell of it:\n%s", text)
	}
	if text, code := g.try("veneer undo"); code == 0 {
		t.Errorf("veneer undo went well: %s", text)
	}
	g.run("echo new > /srv/new; sync")
	g.cut()
	second := headOf(t, img)
	// The key slot begins behind two headers of 16 KiB. Without all of it nobody has the key.
	const slot, piece = 32 << 10, 64
	for at := slot; at < slot+(250<<10); at += 10 << 10 {
		if bytes.Contains(second, first[at:at+piece]) {
			t.Errorf("what lay at byte %d of the old key slot is still there", at)
		}
	}
	if string(second[:6]) != "LUKS\xba\xbe" {
		t.Errorf("the partition begins with %q, want the header of the new state", second[:6])
	}

	// The same order on the command line, twice: once is carried out.
	for n, want := range []int{1, 0} {
		g = m.plain("veneer.reset=all,secure")
		if rec := g.encrypted(); len(rec.Requests) != want {
			t.Errorf("boot %d with the order on the command line: requests %+v, want %d", n+1, rec.Requests, want)
		}
		g.holds("/srv/new", "")
		g.cut()
	}
}

func TestAStateIsSealedByTheTPMAndOpenedByItsSecondKey(t *testing.T) {
	t.Parallel()
	out := made(t, "secure-tpm", "unlock = \"tpm2\"\nkey-file = \"LABEL=KEYS:/state.key\"")
	m := out.machineOn(t, out.roomy(t), keyDisk(t))
	same, other := t.TempDir(), t.TempDir()
	boot := func(dir string) *guest {
		m.vm.TPM = tpm(t, dir)
		return m.plain()
	}
	g := boot(same)
	g.encrypted()
	g.run("echo secret > /srv/kept; sync")
	g.cut()
	keys := m.vm.Disks[1]
	m.vm.Disks = m.vm.Disks[:1] // the stick is in a drawer
	g = boot(same)
	g.encrypted()
	g.holds("/srv/kept", "secret")
	g.cut()
	m.vm.Disks = append(m.vm.Disks, keys)
	g = boot(other)
	g.encrypted()
	g.holds("/srv/kept", "secret")
	g.run("veneer reset --secure; sync")
	g.cut()
	g = boot(same)
	if rec := g.encrypted(); len(rec.Requests) != 1 || rec.Requests[0].Outcome != state.Destroyed {
		t.Errorf("requests %+v, want one that destroyed the key", rec.Requests)
	}
	g.holds("/srv/kept", "")
	g.cut()
}

func TestThePowerFailsWhileAKeyIsMadeOrDestroyed(t *testing.T) {
	t.Parallel()
	out := made(t, "secure-key", "unlock = \"key-file\"\nkey-file = \"LABEL=KEYS:/state.key\"")
	keys, store := keyDisk(t), out.roomy(t)
	whole := func(m machine) *guest {
		g := m.plain()
		g.encrypted()
		return g
	}
	outcomes := map[string]int{}
	for i := range 4 {
		m := out.machineOn(t, copied(t, store), keys)
		g := m.begun()
		g.expect(stage.StepFindState + ` \.\.\. ok`)
		time.Sleep(time.Duration(i) * 700 * time.Millisecond)
		g.cut()
		when := "while the key was made"
		if contains(g.String(), stage.StepPrepareState+` \.\.\. ok`) {
			when = "after the state was made"
		}
		outcomes[when]++
		g = whole(m)
		g.run("echo x > /srv/x; sync")
		g.cut()
	}
	m := out.machineOn(t, store, keys)
	g := whole(m)
	g.run("echo secret > /srv/secret; veneer reset --secure; sync")
	g.cut()
	for i := range 4 {
		n := out.machineOn(t, copied(t, store), keys)
		g := n.begun()
		g.expect(stage.StepPrepareState + ` \.\.\. ok`)
		time.Sleep(time.Duration(i) * 300 * time.Millisecond)
		g.cut()
		when := "before or while the key was destroyed"
		if contains(g.String(), `the key of the state on \S+ was destroyed`) {
			when = "after the key was destroyed"
		}
		outcomes[when]++
		g = whole(n)
		g.holds("/srv/secret", "")
		if text := g.run("veneer journal"); !contains(text, `destroyed`) {
			t.Errorf("cut %s: the journal does not tell of the reset:\n%s", when, text)
		}
		g.cut()
	}
	t.Logf("8 power cuts, each followed by a whole boot: %v", outcomes)
}

func TestAPartitionIsMadeInTheFreeRoomAndUsedAgain(t *testing.T) {
	t.Parallel()
	out := made(t, "secure-clear", "")
	img := out.roomy(t)
	m := out.machineOn(t, img)
	g := m.plain()
	rec := g.keepsAll()
	if rec.State.Secure != state.SecureDelete || rec.State.FileSystem != "ext4" {
		t.Errorf("state %+v, want an ext4 in the clear", rec.State)
	}
	g.run("echo first > /srv/kept; sync")
	g.cut()
	g = m.plain()
	if again := g.keepsAll(); again.State.Device != rec.State.Device {
		t.Errorf("the state is on %s, and was on %s", again.State.Device, rec.State.Device)
	}
	g.holds("/srv/kept", "first")
	if text := g.run("veneer reset --secure"); !contains(text, `(?s)not encrypted.*flash`) {
		t.Errorf("veneer reset --secure does not say what a medium keeps:\n%s", text)
	}
	g.run("sync")
	g.cut()
	if said := must(t, "", "sfdisk", "--verify", img); !contains(said, "No errors detected") {
		t.Errorf("sfdisk --verify: %s", said)
	}
	g = m.plain()
	if rec := g.keepsAll(); len(rec.Requests) != 1 || rec.Requests[0].Outcome != state.Done {
		t.Errorf("requests %+v, want one that is done", rec.Requests)
	}
	g.holds("/srv/kept", "")
	g.cut()
}

func TestAStickOnWhichNoUpperCanBeHoldsTheStateInAFile(t *testing.T) {
	t.Parallel()
	out := made(t, "secure-clear", "")
	for _, kind := range []string{"vfat", "exfat"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			stick := blank(t, "stick.img", 400)
			must(t, "", "mkfs."+kind, "-n", "STICK", stick)
			m := out.machineOn(t, out.disk(), stick)
			m.vm.Disks[0].ReadOnly = true
			const where = "veneer.state=/dev/vdb:/keep" // of exfat no label is read
			g := m.plain(where)
			if rec := g.keepsAll(); rec.State.FileSystem != "ext4" || !contains(rec.State.Device, `^/dev/loop`) {
				t.Errorf("state %+v, want an ext4 in a file", rec.State)
			}
			g.run("echo first > /srv/kept; echo first > /etc/kept; sync")
			g.cut()
			g = m.plain(where)
			g.keepsAll()
			g.holds("/srv/kept", "first")
			g.holds("/etc/kept", "first")
			g.run("test -f /run/initramfs/veneer/state-files/keep/state.img")
			g.cut()
		})
	}
}
