package vmtests

// The small base from its build, as users boot it.
//
//	machine   q35, 512 MiB, one CPU, the kernel and initramfs of the output
//	disks     vda: the output's store, write-protected
//	console   each step with its time, then the shell of the base; at the end "root, upper, images and store are down"

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"veneer/images"
	"veneer/stage"
	"veneer/vmtests/qemu"
)

// small is the tiny base with Debian's cloud kernel and nothing that weakens it.
func small(t *testing.T) output {
	t.Helper()
	return outputOf(t, smallRecipe(t, "small", ""))
}

// smallRecipe is a recipe of the small base on amd64; more goes to the head of the veneer.toml.
func smallRecipe(t *testing.T, name, more string) recipe {
	t.Helper()
	return recipe{name, `name = "small"
version = "1.2"
epoch = 3
source = "base.tar"
` + more + `
[kernel]
from = "kernel.deb"
[root]
upper = "tmpfs"
size = "50%"
on-fail = "reboot"
[keys]
secret = "test.key"
`, map[string]string{"base.tar": smallTree(t, "amd64"), "kernel.deb": kernelDeb(t, "amd64", "cloud"), "test.key": testKey(t, "test")}}
}

func TestTheSmallBaseBootsAndForgets(t *testing.T) {
	t.Parallel()
	out := small(t)
	vm := out.vm(t, out.disk())
	g := start(t, vm)
	last := 0
	for i, step := range stage.Steps[:len(stage.Steps)-1] {
		switch step {
		case stage.StepFindState, stage.StepPrepareState, stage.StepRequests, stage.StepUppers, stage.StepRules:
			continue // of a state and its rules, which this base does not have
		case stage.StepNetwork, stage.StepFindMedium, stage.StepTPM, stage.StepCopyImages:
			continue // of the larger variants, or of a boot that asks a TPM
		}
		// The first steps come before the console, and are printed when it is there.
		if at := strings.Index(g.expect(`(?s).*?\] ` + step + ` \.\.\. ok [0-9.]+ms\n`)[0], "FAILED"); at >= 0 {
			t.Fatalf("step %d, %s, failed", i, step)
		}
		last = i
	}
	g.expect(`switch root \.\.\. /`)
	g.shell()
	if want := len(stage.Steps) - 2; last != want {
		t.Errorf("%d steps were seen, want %d", last, want)
	}
	g.run("touch /etc/kept /root/kept")
	g.run("cat /etc/kept")
	g.leave("poweroff", "poweroff", qemu.PoweredOff)

	again := start(t, vm)
	again.shell()
	for _, path := range []string{"/etc/kept", "/root/kept"} {
		if out, code := again.try("cat " + path); code == 0 {
			t.Errorf("%s is still there after a boot: %q", path, out)
		}
	}
	again.leave("reboot", "reboot", qemu.Reset)
}

func TestStatusTellsTheTruth(t *testing.T) {
	t.Parallel()
	out := small(t)
	g := start(t, out.vm(t, out.disk()))
	g.shell()
	text := g.run("veneer status")
	var base images.Image
	for _, img := range out.manifest(t).Images {
		if img.Role == images.RoleBase {
			base = img
		}
	}
	for _, want := range []string{"small", "1.2", keyID(t, "test"), base.ID[:12], "tmpfs"} {
		if !strings.Contains(text, want) {
			t.Errorf("veneer status does not tell %q:\n%s", want, text)
		}
	}
	var rec stage.Record
	if err := json.Unmarshal([]byte(g.run("cat /run/veneer/state.json")), &rec); err != nil {
		t.Fatal(err)
	}
	if len(rec.Degraded) != 0 {
		t.Errorf("the record says %q, want nothing degraded", rec.Degraded)
	}
	if !rec.Verified.Manifest || !rec.Verified.Images || rec.Verified.KeyID != keyID(t, "test") {
		t.Errorf("the record says %+v, want a manifest and images that key %s vouches for", rec.Verified, keyID(t, "test"))
	}
	if rec.Store.Device != "/dev/vda" || rec.Store.FileSystem != "ext4" || rec.Deployment.Epoch != 3 {
		t.Errorf("the record says %+v, %+v; want /dev/vda, ext4, epoch 3", rec.Store, rec.Deployment)
	}
	// The record is what the mount table shows.
	mounts := g.run("cat /proc/mounts")
	for _, img := range rec.Images {
		if !regexp.MustCompile(`(?m)^` + img.Device + ` ` + img.Mount + ` ` + img.FileSystem + ` ro,`).MatchString(mounts) {
			t.Errorf("%s %s is not mounted read-only from %s on %s:\n%s", img.Role, img.Name, img.Device, img.Mount, mounts)
		}
		if !strings.HasPrefix(img.Device, "/dev/dm-") {
			t.Errorf("%s %s is read from %s, not through dm-verity", img.Role, img.Name, img.Device)
		}
	}
	for _, path := range []string{"/run/veneer/base/etc/os-release", "/run/veneer/upper/upper", "/run/veneer/store/veneer/default",
		"/run/rootfsbase/etc", "/run/overlayfs", "/run/initramfs/live/veneer", "/run/initramfs/shutdown", "/run/veneer/log"} {
		g.run("ls -d " + path)
	}
	g.leave("kill -10 1", "halt", qemu.Killed)
}

// keyID is the ID of a test key as veneer and minisign print it.
func keyID(t *testing.T, name string) string {
	t.Helper()
	text := string(read(t, strings.TrimSuffix(testKey(t, name), ".key")+".pub"))
	id := regexp.MustCompile(`public key ([0-9A-F]+)`).FindStringSubmatch(text)
	if id == nil {
		t.Fatalf("no key ID in %q", text)
	}
	return id[1]
}
