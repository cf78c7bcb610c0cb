package vmtests

// A factory reset that the running system asks its firmware for, as `systemctl start factory-reset.target` does, on a disk that was written to
// a larger device.
//
//	machine   q35, 1024 MiB, OVMF with a file for its variables; no kernel from outside
//	disks     vda: the output's disk.img, enlarged, writable; the first boot makes the state behind the store
//	base      Debian with the tools for a state, and a shell as its init
//	console   the firmware, then the steps of a state and the shell of each of three boots

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"veneer/overlay/state"
)

// efiReset is the variable, as efivarfs names it.
const efiReset = "/sys/firmware/efi/efivars/FactoryResetRequest-8cf2644b-4b0b-428f-9387-6d876050dc67"

// askFirmware sets it as systemd 258 does: the attributes of a variable that is kept, and JSON in UTF-16 that names system and boot.
const askFirmware = `{ printf '\007\000\000\000'; printf '{"osReleaseId":"debian","bootId":"%s"}' $(tr -d - < /proc/sys/kernel/random/boot_id) | sed 's/./&\x00/g'; } > /tmp/v && ` +
	`cat /tmp/v > ` + efiReset + ` && sync`

// keptByFirmware is a Debian whose disk makes a state behind the store, with a shell as its init.
func keptByFirmware(t *testing.T) output {
	t.Helper()
	return outputOf(t, recipe{"firmware-reset", `name = "debian"
version = "12"
source = "debian.tar"
outputs = ["disk"]
[boot]
cmdline = "console=ttyS0 panic=-1 init=/bin/sh"
firmware = ["uefi"]
[state]
place = "PARTLABEL=state"
create = true
[[rules]]
path = "/srv"
action = "persist"
[keys]
secret = "test.key"
[allow]
losses = ["acl"]
`, map[string]string{"debian.tar": debianStateTree(t), "test.key": testKey(t, "test")}})
}

func TestAFactoryResetThatTheFirmwareAsksForIsDoneOnce(t *testing.T) {
	t.Parallel()
	out := keptByFirmware(t)
	img := copied(t, out.file("disk.img"))
	info, err := os.Stat(img)
	if err != nil {
		t.Fatal(err)
	}
	const more = 256 << 20
	if err := os.Truncate(img, info.Size()+more); err != nil {
		t.Fatal(err)
	}
	vm := fromFirmware(t, img, filepath.Join(t.TempDir(), "vars"), false)
	vm.MemoryMiB, vm.Disks[0].Snapshot = 1024, false
	boot := func() *guest {
		g := start(t, vm)
		g.prompt = `(?m:^# )`
		g.shell()
		return g
	}

	g := boot()
	g.keepsAll()
	g.run("echo secret > /srv/kept; echo secret > /etc/kept")
	if _, code := g.try("test -e " + efiReset); code == 0 {
		t.Error("the firmware asks for a reset before anybody did")
	}
	g.run(askFirmware)
	g.cut()

	// What the first boot made of the table of a disk that had become larger.
	var table struct {
		PartitionTable struct {
			LastLBA    int64
			Partitions []struct {
				Name        string
				Start, Size int64
			}
		}
	}
	if err := json.Unmarshal([]byte(must(t, "", "sfdisk", "--json", img)), &table); err != nil {
		t.Fatal(err)
	}
	end := (info.Size() + more) / 512
	if said := must(t, "", "sfdisk", "--verify", img); !contains(said, `No errors detected`) {
		t.Errorf("sfdisk: %s", said)
	}
	if last := table.PartitionTable.LastLBA; last < end-64 {
		t.Errorf("the last sector for partitions is %d on a disk of %d: the table was not moved to its end", last, end)
	}
	parts := table.PartitionTable.Partitions
	if last := parts[len(parts)-1]; last.Name != "state" || last.Start+last.Size < end-4096 {
		t.Errorf("the last partition is %+v on a disk of %d sectors; want the state up to its end", last, end)
	}

	g = boot()
	if rec := g.keepsAll(); len(rec.Requests) != 1 || rec.Requests[0].Kind != string(state.Reset) || rec.Requests[0].Outcome != state.Done {
		t.Errorf("requests %+v, want one reset that is done", rec.Requests)
	}
	g.holds("/srv/kept", "")
	g.holds("/etc/kept", "")
	if text, code := g.try("test -e " + efiReset); code == 0 {
		t.Errorf("the firmware still asks for the reset: %s", text)
	}
	if text := g.run("veneer journal"); !contains(text, `FactoryResetRequest`) {
		t.Errorf("the journal does not say who asked:\n%s", text)
	}
	g.run("echo again > /srv/again; sync")
	g.cut()

	g = boot()
	if rec := g.keepsAll(); len(rec.Requests) != 0 {
		t.Errorf("requests %+v at the boot after the reset, want none", rec.Requests)
	}
	g.holds("/srv/again", "again")
	g.cut()
}
