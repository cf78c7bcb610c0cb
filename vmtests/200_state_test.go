package vmtests

// What the small base keeps, where, and through what.
//
//	machine   q35, 512 MiB
//	disks     vda: the store, writable, in which the state is; or write-protected, and the state on vdb
//	console   the steps of a state, then the shell of the base, which writes here and there

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"veneer/stage"
	"veneer/vmtests/disks"
	"veneer/vmtests/qemu"
)

// keeps is the recipe of a small base with a state in the store, /etc merged and /var persistent; more goes behind that.
func keeps(t *testing.T, name, more string, layer ...file) recipe {
	t.Helper()
	r := smallRecipe(t, name, "")
	r.toml += `
[state]
place = "store"
[[rules]]
path = "/var"
action = "persist"
` + more
	if len(layer) > 0 {
		r.toml += `
[[layers]]
name = "more"
source = "more.tar"
`
		r.files["more.tar"] = archive(t, name, layer...)
	}
	return r
}

// kept is the plainest of them.
func kept(t *testing.T) output {
	t.Helper()
	return outputOf(t, keeps(t, "kept", ""))
}

// machine is a VM with disks that it may write to, and that outlive a boot.
type machine struct {
	t  *testing.T
	vm qemu.VM
}

// machineOn boots the output from the disk; the others follow it. All are writable.
func (o output) machineOn(t *testing.T, store string, others ...string) machine {
	t.Helper()
	vm := o.vm(t, store)
	vm.Disks[0].ReadOnly = false
	for _, d := range others {
		vm.Disks = append(vm.Disks, qemu.Disk{Path: d, Bus: qemu.VirtioBlk})
	}
	return machine{t, vm}
}

// copied is a copy of a file, with its holes.
func copied(t *testing.T, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), filepath.Base(path))
	must(t, "", "cp", "--sparse=always", path, to)
	return to
}

// start boots it with more words on the command line.
func (m machine) start(words ...string) *guest {
	m.t.Helper()
	vm := m.vm
	vm.Append = append(append([]string{}, vm.Append...), words...)
	return start(m.t, vm)
}

// boot boots it to its shell.
func (m machine) boot(words ...string) *guest {
	m.t.Helper()
	g := m.start(words...)
	g.shell()
	return g
}

// off ends a guest of the small base in good order.
func (g *guest) off() {
	g.t.Helper()
	g.leave("poweroff", "poweroff", qemu.PoweredOff)
}

// cut takes the power away.
func (g *guest) cut() {
	g.t.Helper()
	g.Kill()
	g.ends(qemu.Killed)
}

func (g *guest) record() (rec stage.Record) {
	g.t.Helper()
	if err := json.Unmarshal([]byte(g.run("cat /run/veneer/state.json")), &rec); err != nil {
		g.t.Fatal(err)
	}
	return rec
}

// holds checks what is in a file; "" is that there is none.
func (g *guest) holds(path, want string) {
	g.t.Helper()
	out, code := g.try("cat " + path)
	if code != 0 {
		out = ""
	}
	if got := strings.TrimSuffix(out, "\n"); got != want {
		g.t.Errorf("%s holds %q, want %q", path, got, want)
	}
}

// keepsAll checks that a boot keeps things as it should, and nothing is less than was asked for.
func (g *guest) keepsAll() stage.Record {
	g.t.Helper()
	rec := g.record()
	if rec.State.Kind != stage.StatePersistent || len(rec.Degraded) > 0 {
		g.t.Errorf("state %+v, degraded %q; want a persistent one, and nothing degraded", rec.State, rec.Degraded)
	}
	return rec
}

func TestWhatIsWrittenOutlivesTheBootWhereARuleSaysSo(t *testing.T) {
	t.Parallel()
	out := kept(t)
	for _, kind := range []string{"ext4", "btrfs", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			store := out.disk()
			if kind == "ext4" {
				store = copied(t, store)
			} else {
				store = disk(t, disks.FileSystem{Type: kind, Label: label}, out.store(t, "veneer").dir)
			}
			m := out.machineOn(t, store)
			g := m.boot()
			rec := g.keepsAll()
			if rec.State.FileSystem != kind || rec.State.Device != "/dev/vda" || rec.State.Reference != "store" || rec.State.Dir != "/veneer" {
				t.Errorf("the record says %+v; want the store's %s on /dev/vda, and /veneer in it", rec.State, kind)
			}
			if status := g.run("veneer status --json"); !contains(status, `"kind": ?"persistent"`) {
				t.Errorf("veneer status --json does not say persistent:\n%s", status)
			}
			g.run("echo first > /etc/kept; echo first > /var/lib/kept; echo first > /gone; echo first > /tmp/gone; rm /etc/group; echo mine >> /etc/hostname")
			g.off()

			g = m.boot()
			g.keepsAll()
			g.holds("/etc/kept", "first")
			g.holds("/var/lib/kept", "first")
			g.holds("/gone", "")
			g.holds("/tmp/gone", "")
			g.holds("/etc/group", "")
			g.holds("/etc/hostname", "small\nmine")
			g.run("echo second > /etc/kept; echo second > /var/lib/second; sync; echo third > /var/lib/third")
			g.cut()

			g = m.boot()
			g.keepsAll()
			g.holds("/etc/kept", "second")
			g.holds("/var/lib/kept", "first")
			g.holds("/var/lib/second", "second")
			g.holds("/etc/group", "")
			g.run("veneer status")
			g.off()
		})
	}
}

func TestTheStoreIsWritableNowhereButInItsState(t *testing.T) {
	t.Parallel()
	out := kept(t)
	g := out.machineOn(t, copied(t, out.disk())).boot()
	for _, path := range []string{"/run/veneer/store/veneer/default", "/run/veneer/store/x"} {
		if text, code := g.try("echo x > " + path); code == 0 || !contains(text, `(?i)read-only`) {
			t.Errorf("writing %s ended with code %d, want a read-only file system: %s", path, code, text)
		}
	}
	g.off()
}

func TestAPersistentRootKeepsEverythingButWhatARuleForgets(t *testing.T) {
	t.Parallel()
	out := outputOf(t, keeps(t, "kept-root", `
[[rules]]
path = "/var/cache"
action = "ephemeral"
[[rules]]
path = "/home/scratch"
action = "ephemeral"
`, file{"var/cache/", ""}, file{"home/scratch/seed", "seed"}))
	m := out.machineOn(t, copied(t, out.disk()))
	g := m.boot("veneer.upper=persistent")
	if rec := g.keepsAll(); rec.Upper.Kind != "persistent" {
		t.Errorf("the upper is %q, want persistent", rec.Upper.Kind)
	}
	g.run("echo a > /root/kept; echo a > /kept; rm /usr/bin/wc; echo a > /var/lib/kept; echo a > /var/cache/gone; echo a > /etc/kept; echo a > /home/scratch/gone; rm /home/scratch/seed")
	g.off()
	g = m.boot("veneer.upper=persistent")
	g.keepsAll()
	for _, path := range []string{"/root/kept", "/kept", "/var/lib/kept", "/etc/kept"} {
		g.holds(path, "a")
	}
	g.holds("/var/cache/gone", "")
	g.holds("/home/scratch/gone", "")
	g.holds("/home/scratch/seed", "seed")
	if _, code := g.try("test -e /usr/bin/wc"); code == 0 {
		t.Error("/usr/bin/wc was removed, and is back")
	}
	g.cut()
	// The same state under a volatile root keeps what the rules say.
	g = m.boot()
	g.keepsAll()
	g.holds("/kept", "")
	g.holds("/etc/kept", "a")
	g.run("test -e /usr/bin/wc")
	g.off()
}

// stateDisk is an ext4 with a directory in it.
func stateDisk(t *testing.T, dir string, mebibytes int) string {
	t.Helper()
	img := blank(t, "state.img", mebibytes)
	must(t, "", "mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-L", "STATE", "-E", "root_owner=0:0", "-d", dir, img)
	return img
}

func emptyDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
