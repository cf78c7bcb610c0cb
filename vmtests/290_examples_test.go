package vmtests

// The examples of docs/rules.md, as they stand in examples/, over a base that has what they name.
//
//	kiosk, cloud VM       the small base; the store on vda; for the VM a volume on vdb
//	live stick, device    a Debian with the tools for a state; vda: GPT with the store, and 512 MiB free behind it; a TPM for the device
//	console               a shell, or a login; two boots

import (
	"path/filepath"
	"testing"

	"veneer/stage"
	"veneer/vmtests/qemu"
)

// example builds examples/NAME.toml with that archive in the place of its source, the keys of the tests, and a layer of files over it.
func example(t *testing.T, name, source, tree string, layer ...file) output {
	t.Helper()
	key := testKey(t, "test")
	public := key[:len(key)-len(".key")] + ".pub"
	toml := string(read(t, filepath.Join(shared.root, "examples", name+".toml")))
	toml += "\n[[layers]]\nname = \"" + name + "-test\"\nsource = \"layer.tar\"\n"
	files := map[string]string{source: tree, "layer.tar": archive(t, name, layer...), "release.key": key, "release.pub": public}
	if tree == smallTree(t, "amd64") { // which has no kernel
		toml += "[kernel]\nfrom = \"kernel.deb\"\n"
		files["kernel.deb"] = kernelDeb(t, "amd64", "cloud")
	}
	if name == "kiosk" {
		toml = string(replaced(t, []byte(toml), `source = "customer"`, `source = "customer.tar"`))
		files["customer.tar"] = archive(t, "customer", file{"opt/logo", "a customer\n"})
		files["next-year.pub"] = testKey(t, "next-year")[:len(testKey(t, "next-year"))-len(".key")] + ".pub"
	}
	return outputOf(t, recipe{"example-" + name, toml, files})
}

func TestTheKioskOfTheExamplesKeepsWhatTheCustomerMaySet(t *testing.T) {
	t.Parallel()
	out := example(t, "kiosk", "kiosk.tar.zst", smallTree(t, "amd64"), file{"opt/till", "the till\n"}, file{"boot/secret", "x\n"})
	m := out.machineOn(t, copied(t, out.disk()))
	m.vm.UUID = machineUUID // of which its ID is derived
	g := m.boot()
	g.keepsAll()
	g.run("mkdir -p /etc/NetworkManager/system-connections")
	g.run("echo wifi >/etc/NetworkManager/system-connections/home")
	g.run("echo zone >/etc/localtime")
	g.run("echo lost >/etc/lost")
	g.run("echo lost >/lost")
	name := g.run("cat /etc/hostname")
	if !contains(name, `^kiosk-[0-9a-f]{6}\s*$`) {
		t.Errorf("/etc/hostname is %q, want kiosk- and six digits", name)
	}
	if out, code := g.try("echo x >/opt/till"); code == 0 {
		t.Errorf("the program was written: %s", out)
	}
	g.off()
	g = m.boot()
	g.holds("/etc/NetworkManager/system-connections/home", "wifi")
	g.holds("/etc/localtime", "zone")
	g.holds("/opt/logo", "a customer")
	for _, lost := range []string{"/etc/lost", "/lost", "/boot/secret"} {
		if _, code := g.try("cat " + lost); code == 0 {
			t.Errorf("%s is there", lost)
		}
	}
	g.off()
}

func TestTheCloudVMOfTheExamplesKeepsItsDataOnAVolume(t *testing.T) {
	t.Parallel()
	out := example(t, "cloud-vm", "db.tar.zst", smallTree(t, "amd64"), file{"var/log/journal/", ""})
	// Without the volume it does not boot, and the platform is told.
	g := start(t, out.vm(t, out.disk(), "veneer.wait=1"))
	g.failed(stage.StepFindState, `LABEL=db-data`)
	g.ends(qemu.PoweredOff)
	volume := blank(t, "volume.img", 32)
	must(t, "", "mkfs.ext4", "-q", "-L", "db-data", volume)
	m := out.machineOn(t, copied(t, out.disk()), volume)
	m.vm.UUID = machineUUID
	g = m.boot()
	g.keepsAll()
	if got := g.run("ls -l /var/lib"); !contains(got, `(?m)^drwxr-xr-x +105 +113 .*postgresql`) {
		t.Errorf("/var/lib has %q, want postgresql with 105:113 and 0755", got)
	}
	g.run("echo row >/var/lib/postgresql/table")
	g.run("mkdir -p /var/log/journal/m && echo x >/var/log/journal/m/system.journal && echo x >/var/log/journal/m/system@1.journal~")
	g.run("echo lost >/etc/lost")
	g.off()
	g = m.boot()
	g.holds("/var/lib/postgresql/table", "row")
	g.holds("/var/log/journal/m/system.journal", "x")
	g.holds("/var/log/journal/m/system@1.journal~", "")
	g.holds("/etc/lost", "")
	g.off()
}

func TestTheLiveStickOfTheExamplesMakesItsOwnPartition(t *testing.T) {
	t.Parallel()
	out := example(t, "live-stick", "live.tar.zst", debianStateTree(t), file{"var/lib/of-the-base", "1\n"})
	m := out.machineOn(t, out.roomy(t))
	g := login(t, m.vm)
	g.run("unset MAIL") // whose directory sh looks at before each prompt
	g.keepsAll()
	id := g.run("cat /etc/machine-id")
	for _, path := range []string{"/home/kept", "/etc/kept", "/var/kept", "/var/cache/lost", "/var/tmp/lost", "/srv/lost"} {
		g.run("echo it >" + path)
	}
	g.leave("systemctl poweroff", "poweroff", qemu.PoweredOff)
	g = login(t, m.vm)
	g.keepsAll()
	for path, want := range map[string]string{"/home/kept": "it", "/etc/kept": "it", "/var/kept": "it", "/var/cache/lost": "", "/var/tmp/lost": "",
		"/srv/lost": "", "/var/lib/of-the-base": "1"} {
		g.holds(path, want)
	}
	if again := g.run("cat /etc/machine-id"); again != id {
		t.Errorf("machine-id is %q, was %q", again, id)
	}
	g.leave("systemctl poweroff", "poweroff", qemu.PoweredOff)
}

func TestTheDeviceOfTheExamplesKeepsItsStateUnderTheKeyOfItsTPM(t *testing.T) {
	t.Parallel()
	out := example(t, "device", "device.tar.zst", debianStateTree(t), file{"opt/plugins/base", "1\n"}, file{"etc/app/users", "one:1\n"})
	m := out.machineOn(t, out.roomy(t))
	chip := t.TempDir()
	m.vm.TPM = tpm(t, chip)
	g := login(t, m.vm)
	g.run("unset MAIL") // whose directory sh looks at before each prompt
	g.keepsAll()
	for _, path := range []string{"/home/kept", "/etc/kept", "/var/kept", "/opt/plugins/kept", "/var/tmp/lost", "/srv/lost"} {
		g.run("echo it >" + path)
	}
	if kind := g.run("lsblk -n -o FSTYPE /dev/vda2"); !contains(kind, "crypto_LUKS") {
		t.Errorf("the state's partition is %s", kind)
	}
	g.leave("systemctl poweroff", "poweroff", qemu.PoweredOff)
	m.vm.TPM = tpm(t, chip)
	g = login(t, m.vm)
	g.keepsAll()
	for path, want := range map[string]string{"/home/kept": "it", "/etc/kept": "it", "/var/kept": "it", "/opt/plugins/kept": "it", "/opt/plugins/base": "1",
		"/var/tmp/lost": "", "/srv/lost": ""} {
		g.holds(path, want)
	}
	g.leave("systemctl poweroff", "poweroff", qemu.PoweredOff)
}
