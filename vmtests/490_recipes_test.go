package vmtests

// The recipes of docs/recipes.md that no other case boots.
//
//	cloud VM    a Debian with cloud-init, from its disk by UEFI; vda: the output's disk.img, thrown away; vdb: the seed of NoCloud

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"veneer/vmtests/qemu"
)

// cloudPackages are what the base of the cloud VM has beside.
const cloudPackages = "cloud-init,openssh-server,netbase,sudo"

func TestTheCloudVMIsMadeWhatItIsByCloudInit(t *testing.T) {
	t.Parallel()
	tree := shared.make(t, "Debian with cloud-init", func() (string, error) {
		sum := sha256.Sum256([]byte(cloudPackages))
		path := filepath.Join(shared.cache, "debian-cloud-"+hex.EncodeToString(sum[:4])+"-bookworm-amd64.tar")
		_, err := tool(t.Context(), shared.root, "examples/debian/tree", path, cloudPackages)
		return path, err
	})
	toml := read(t, filepath.Join(shared.root, "examples/cloud-init.toml"))
	out := outputOf(t, recipe{"cloud-init", string(toml), map[string]string{"web.tar": tree, "release.key": testKey(t, "test")}})

	seed := t.TempDir()
	for name, text := range map[string]string{
		"meta-data": "instance-id: web-7\n",
		"user-data": "#cloud-config\nhostname: web-7\nlocale: false\nusers:\n  - name: ops\n    sudo: ALL=(ALL) NOPASSWD:ALL\n    ssh_authorized_keys:\n      - " + opsKey + "\n",
	} {
		if err := os.WriteFile(filepath.Join(seed, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	iso := filepath.Join(t.TempDir(), "seed.iso")
	must(t, seed, "xorriso", "-as", "mkisofs", "-quiet", "-J", "-r", "-V", "cidata", "-o", iso, "user-data", "meta-data")

	vm := fromFirmware(t, out.file("disk.img"), filepath.Join(t.TempDir(), "vars"), false)
	vm.Disks = append(vm.Disks, qemu.Disk{Path: iso, Bus: qemu.VirtioBlk, ReadOnly: true})
	vm.UUID = machineUUID
	g := login(t, vm)
	if got := g.run("cloud-init status --wait"); !contains(got, `status: done`) {
		t.Errorf("cloud-init status says\n%s", got)
	}
	for command, want := range map[string]string{
		"hostname":                           `^web-7\n$`,
		"id ops":                             `uid=[0-9]+\(ops\)`,
		"cat /home/ops/.ssh/authorized_keys": opsKey,
		"ls /etc/ssh":                        `ssh_host_ed25519_key\b`,
		"systemctl is-active ssh":            `^active\n$`,
		"veneer status":                      `Verified +yes`,
		"veneer diff /etc":                   `M /etc/hostname`,
	} {
		if got := g.run(command); !contains(got, want) {
			t.Errorf("%s does not show %q:\n%s", command, want, got)
		}
	}
	g.leave("systemctl poweroff", "poweroff", qemu.PoweredOff)
}

// opsKey is nobody's.
const opsKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJXf5qDRpWFXo0pLk8M1mmoH8kq0fJmUoTq0yUcmD0cL ops@example"
