package vmtests

// A parameter that switches verification off, on the signed command line of a UKI whose initramfs allows it.
//
//	machine   q35, 512 MiB, OVMF with Secure Boot; first in its setup mode, then with our keys
//	disks     vda: the output's disk.img, what is written to it is thrown away
//	base      the small one
//	console   the menu that enrolls the keys; the init that ignores the parameter; a shell

import (
	"path/filepath"
	"strings"
	"testing"

	"veneer/vmtests/qemu"
)

func TestUnderSecureBootVerificationStaysOnWhateverTheCommandLineSays(t *testing.T) {
	t.Parallel()
	keys := secureKeys(t)
	r := smallRecipe(t, "ignored", `outputs = ["disk"]`+"\nallow-unsigned = true\n")
	r.toml += "[boot]\ncmdline = \"console=ttyS0 panic=-1 veneer.verify=none\"\nfirmware = [\"uefi\"]\nmenu = true\nenroll-unasked = true\n" +
		strings.ReplaceAll("enroll = \"KEYS\"\nkey = \"KEYS/db.key\"\ncert = \"KEYS/db.crt\"\n", "KEYS", keys)
	out, vars := outputOf(t, r), filepath.Join(t.TempDir(), "vars")

	setup := start(t, fromFirmware(t, out.file("disk.img"), vars, true))
	setup.expect(`Enrolling secure boot keys`)
	setup.ends(qemu.Reset)

	g := start(t, fromFirmware(t, out.file("disk.img"), vars, true))
	g.expect(`veneer\.verify=none is ignored: Secure Boot is on`)
	g.shell()
	if text := g.run("veneer status"); !contains(text, `Verified +yes`) || !contains(text, `Degraded +no`) || !contains(text, `veneer\.verify=none is IGNORED under Secure Boot`) {
		t.Errorf("veneer status:\n%s", text)
	}
	g.leave("poweroff", "poweroff", qemu.PoweredOff)
}
