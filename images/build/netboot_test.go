package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"veneer/boot/network"
	"veneer/images"
)

func TestTheNetbootOutputIsAStoreWithAScript(t *testing.T) {
	p := newProject(t, "outputs = [\"netboot\"]\n[boot]\ncmdline = \"console=ttyS0 quiet\"\nfirmware = [\"bios\"]\nurl = \"http://boot.example/kiosk\"\n")
	out := p.build(t, nil)
	dir := filepath.Join(out, outNetboot)
	store := os.DirFS(dir)
	serial, err := images.Default(store)
	if err != nil || serial != "1" {
		t.Fatalf("Default() = %q, %v", serial, err)
	}
	text, _, err := images.ReadDeployment(store, serial)
	if err != nil {
		t.Fatal(err)
	}
	man, err := images.ParseManifest(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range man.Images {
		name := images.ImagePath(img.ID)
		served, err := os.Stat(filepath.Join(dir, name))
		own, oerr := os.Stat(filepath.Join(out, name))
		if err != nil || oerr != nil || !os.SameFile(served, own) || served.Size() != img.Size {
			t.Errorf("%s is not the file of the output: %v, %v", name, err, oerr)
		}
	}
	script := string(read(t, filepath.Join(dir, scriptFile)))
	for _, want := range []string{"#!ipxe\n", "isset ${base} || set base http://boot.example/kiosk/\n",
		"kernel ${base}vmlinuz initrd=initramfs.cpio.zst veneer.url=${base} BOOTIF=01-${netX/mac:hexhyp} console=ttyS0 quiet\ninitrd ${base}initramfs.cpio.zst\nboot\n"} {
		if !strings.Contains(script, want) {
			t.Errorf("the script has no %q:\n%s", want, script)
		}
	}
	// The same again replaces it; without the output it goes.
	p.build(t, func(s *Spec) { s.Out = out })
	if _, err := os.Stat(filepath.Join(dir, scriptFile)); err != nil {
		t.Error(err)
	}
	p.build(t, func(s *Spec) { s.Out, s.Config.Outputs, s.Config.Boot.URL = out, nil, "" })
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory of the former build is still there: %v", err)
	}
}

func TestASmallerInitCannotBootFromAServer(t *testing.T) {
	for text, want := range map[string]string{
		"variant = \"live\"\noutputs = [\"netboot\"]\n":                  `f:5: variant: "live" cannot boot the output "netboot"`,
		"[boot]\nurl = \"http://h/\"\n":                                  `f:6: boot.url: only the init for netboot reads it`,
		"variant = \"net\"\n[boot]\nurl = \"https://h/\"\n":              `f:7: boot.url: "https://h/": https is not supported`,
		"outputs = [\"netboot\"]\n[boot]\nurl = \"http://user:pw@h/\"\n": `password`,
		"variant = \"net\"\n[boot]\nurl = \"http://h\"\n":                "",
	} {
		_, err := ParseConfig("f", []byte(smallest+text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if _, err := network.ParseURL("http://h"); err != nil {
		t.Error(err)
	}
}
