package vmtests

// The small base for arm64, built on this machine.
//
//	machine   virt, 512 MiB, Debian's cloud kernel for arm64
//	disks     vda: the output's store, write-protected
//	console   ttyAMA0: the shell of the base

import (
	"testing"

	"veneer/vmtests/qemu"
)

func TestTheSmallBaseBootsOnArm64(t *testing.T) {
	t.Parallel()
	r := smallRecipe(t, "small-arm64", "")
	r.files["base.tar"] = smallTree(t, "arm64")
	r.files["kernel.deb"] = kernelDeb(t, "arm64", "cloud")
	out := outputOf(t, r)
	if arch := out.manifest(t).Architecture; arch != "arm64" {
		t.Fatalf("the build is for %s, want arm64", arch)
	}
	g := start(t, out.vm(t, out.disk()))
	g.shell()
	if text := g.run("veneer status"); !contains(text, `small 1\.2 \(epoch 3, arm64\)`) || !contains(text, `Degraded +no`) {
		t.Errorf("veneer status does not tell of the small base for arm64, not degraded:\n%s", text)
	}
	if got := g.run("uname -m"); got != "aarch64\n" {
		t.Errorf("uname -m prints %q", got)
	}
	g.leave("poweroff", "poweroff", qemu.PoweredOff)
}
