package vmtests

// Older sets on a machine that blessed a newer one, and what a TPM is told of a boot, from firmware on.
//
//	machine   q35, 512 MiB, OVMF, a TPM 2.0 (swtpm); in some boots none, or another
//	disks     vda: the output's disk.img, writable
//	base      the small one
//	console   the firmware, the steps, the shell that blesses; or the step that refuses

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"veneer/images"
	"veneer/images/build"
	efi "veneer/images/disk"
	"veneer/stage"
	"veneer/vmtests/qemu"
)

// guardedBy is the small base of an epoch, as a disk, whose initramfs does not boot without a TPM.
func guardedBy(t *testing.T, name string, epoch int) output {
	t.Helper()
	r := smallRecipe(t, name, `outputs = ["store", "uki", "disk"]`)
	r.toml = strings.Replace(r.toml, "epoch = 3", "epoch = "+strconv.Itoa(epoch), 1) +
		"[boot]\ncmdline = \"console=ttyS0 panic=-1\"\nfirmware = [\"uefi\"]\n[trust]\ntpm = \"required\"\n"
	return outputOf(t, r)
}

// register is a register of the guest's TPM.
func (g *guest) register(n int) string {
	g.t.Helper()
	return strings.ToLower(strings.TrimSpace(g.run("cat /sys/class/tpm/tpm0/pcr-sha256/" + strconv.Itoa(n))))
}

func TestASetBelowTheBlessedEpochIsRefusedWhateverTheDiskSays(t *testing.T) {
	t.Parallel()
	newer, older := guardedBy(t, "epoch-3", 3), guardedBy(t, "epoch-2", 2)
	chip, disk := t.TempDir(), copied(t, newer.file("disk.img"))
	on := func(disk, chip string) *guest {
		vm := fromFirmware(t, disk, filepath.Join(t.TempDir(), "vars"), false)
		vm.Disks[0].Snapshot = false
		if chip != "" {
			vm.TPM = tpm(t, chip)
		}
		return start(t, vm)
	}

	g := on(disk, chip)
	g.shell()
	var predicted build.Prediction
	if err := json.Unmarshal([]byte(must(t, "", command(t), "predict-pcr", "--json", newer.dir)), &predicted); err != nil {
		t.Fatal(err)
	}
	if len(predicted.Registers) != 2 {
		t.Errorf("predicted %+v, want two registers", predicted)
	}
	for _, r := range predicted.Registers {
		if got := g.register(r.Number); got != r.SHA256 {
			t.Errorf("register %d holds %s, predicted was %s", r.Number, got, r.SHA256)
		}
	}
	if text := g.run("veneer status"); !contains(text, `Trust +the TPM keeps no epoch yet: veneer bless; measured into register 13`) {
		t.Errorf("veneer status says nothing of it:\n%s", text)
	}
	log := g.run("cat " + stage.EventLogPath)
	if text := g.run("veneer bless --dry-run"); !contains(text, `no set of an epoch below 3, which is kept in: tpm, store`) {
		t.Errorf("veneer bless --dry-run: %s", text)
	}
	if text := g.run("veneer bless"); !contains(text, `no set of an epoch below 3, which is kept in: tpm, store`) {
		t.Errorf("veneer bless: %s", text)
	}
	if text, code := g.try("touch /run/veneer/store/x"); code == 0 {
		t.Errorf("the store is writable behind a bless: %s", text)
	}
	if got := g.run("cat /run/veneer/store/veneer/" + images.EpochPath()); !contains(got, `^3 tpm\n`) {
		t.Errorf("the store keeps %q", got)
	}
	g.leave("poweroff", "poweroff", qemu.PoweredOff)
	readsAsSystemd(t, newer, log, predicted)

	g = on(disk, chip)
	g.shell()
	if text := g.run("veneer status"); !contains(text, `no set below epoch 3 boots here; the TPM keeps epoch 3`) {
		t.Errorf("veneer status behind a bless:\n%s", text)
	}
	g.leave("poweroff", "poweroff", qemu.PoweredOff)

	g = on(copied(t, older.file("disk.img")), chip) // as it was before the machine ever booted the newer one
	g.failed(stage.StepTPM, `(?s)epoch 2, and the TPM keeps 3: the set is older than what was blessed here.*try: `)
	g.ends(qemu.Reset)
	g.never(`mount images`)

	for cause, chip := range map[string]string{`it was cleared, or is another one`: t.TempDir(), `no TPM 2\.0 that the kernel drives`: ""} {
		g = on(disk, chip)
		g.failed(stage.StepTPM, cause)
		g.ends(qemu.Reset)
	}

	older.refuse(t, refusal{step: stage.StepCheckManifest, cause: `epoch 2, and the store keeps 3: the set is older`, spoil: func(s store) {
		if err := os.WriteFile(filepath.Join(s.dir, "veneer", images.EpochPath()), images.Blessed{Epoch: 3}.Encode(), 0o644); err != nil {
			t.Fatal(err)
		}
	}})
}

// trixiePrograms is the part of a Debian 13 that its systemd's tools need.
func trixiePrograms(t *testing.T) string {
	t.Helper()
	tree := trixieTree(t)
	root := t.TempDir()
	must(t, "", "tar", "-C", root, "-xf", tree, "./usr/lib/systemd", "./usr/lib/x86_64-linux-gnu", "./lib", "./lib64", "./usr/lib64", "./tmp")
	return root
}

// inTrixie runs a program of it.
func inTrixie(t *testing.T, root string, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command("chroot", append([]string{root}, args...)...)
	cmd.Env = env
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", args, err, out, complaints.String())
	}
	return string(out)
}

// readsAsSystemd holds an event log against systemd's own reader of it, from a Debian 13, the first that has one, and the values of a
// UKI against its systemd-measure.
func readsAsSystemd(t *testing.T, out output, log string, predicted build.Prediction) {
	t.Helper()
	root := trixiePrograms(t)
	for name, content := range map[string]string{"measure.log": strings.ReplaceAll(log, "\r", ""), "none": ""} {
		if err := os.WriteFile(filepath.Join(root, "tmp", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var cel []struct {
		PCR     int
		Digests []struct{ HashAlg, Digest string }
	}
	env := []string{"SYSTEMD_MEASURE_LOG_USERSPACE=/tmp/measure.log", "SYSTEMD_MEASURE_LOG_FIRMWARE=/tmp/none"}
	text := inTrixie(t, root, env, "/usr/lib/systemd/systemd-pcrlock", "cel", "--json=short")
	if err := json.Unmarshal([]byte(text), &cel); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	events := predicted.Registers[1].Events
	if len(cel) != len(events) {
		t.Errorf("systemd-pcrlock reads %d events, want %q: %s", len(cel), events, text)
	}
	for i, e := range cel {
		sum := sha256.Sum256([]byte(events[i]))
		found := false
		for _, d := range e.Digests {
			found = found || d.HashAlg == "sha256" && d.Digest == hex.EncodeToString(sum[:])
		}
		if e.PCR != 13 || !found {
			t.Errorf("systemd-pcrlock reads event %d as %+v, want the digest of %q", i, e, events[i])
		}
	}

	sections, _, err := efi.Sections(read(t, out.file("uki.efi")))
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"/usr/lib/systemd/systemd-measure", "calculate", "--bank=sha256", "--phase=:", "--json=short"}
	for _, s := range sections {
		switch s.Name {
		case ".linux", ".osrel", ".cmdline", ".initrd": // what the stub of systemd 252 measures
			if err := os.WriteFile(filepath.Join(root, "tmp", s.Name), s.Content, 0o644); err != nil {
				t.Fatal(err)
			}
			args = append(args, "--"+s.Name[1:]+"=/tmp/"+s.Name)
		}
	}
	if text := inTrixie(t, root, nil, args...); !strings.Contains(text, predicted.Registers[0].SHA256) {
		t.Errorf("systemd-measure says %s, predicted was %s", text, predicted.Registers[0].SHA256)
	}
}
