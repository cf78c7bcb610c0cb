package build

import (
	"fmt"
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
	if v, err := Verify(t.Context(), VerifySpec{Path: out}); err != nil || v.Err() != nil || !strings.Contains(fmt.Sprint(v.Checks), "{netboot, vmlinuz ") {
		t.Errorf("Verify of the output = %v, %v: %v", err, v.Err(), v.Checks)
	}
	key := readKeys(t, out)
	for name, want := range map[string]string{outKernel: "vmlinuz: ", outInitramfs: "initramfs", images.ImagePath(man.Images[0].ID): man.Images[0].ID, images.DefaultPath(): "default"} {
		own := filepath.Join(dir, name)
		good := read(t, own)
		if err := os.Remove(own); err != nil { // it shares its content with the output
			t.Fatal(err)
		}
		for _, junk := range []string{"", "junk"} {
			if junk != "" {
				write(t, own, junk)
			}
			v, err := Verify(t.Context(), VerifySpec{Path: out})
			if err != nil || v.Err() == nil || !strings.Contains(v.Err().Error(), "netboot, ") || !strings.Contains(v.Err().Error(), want) {
				t.Errorf("netboot/%s as %q: Verify of the output = %v, %v", name, junk, err, v.Err())
			}
			v, err = Verify(t.Context(), VerifySpec{Path: dir, Keys: key})
			if err != nil || v.Err() == nil || !strings.Contains(v.Err().Error(), want) {
				t.Errorf("netboot/%s as %q: Verify of the directory = %v, %v", name, junk, err, v.Err())
			}
		}
		write(t, own, string(good))
		if v, err := Verify(t.Context(), VerifySpec{Path: dir, Keys: key}); err != nil || v.Err() != nil || len(v.Notes) != 0 {
			t.Errorf("a copy of the directory: %v, %v, %v", err, v.Err(), v.Notes)
		}
	}
	write(t, filepath.Join(dir, outUKI), "junk")
	for path, want := range map[string]string{out: "netboot, uki.efi: ", dir: "uki.efi: "} {
		if v, err := Verify(t.Context(), VerifySpec{Path: path, Keys: key}); err != nil || v.Err() == nil || !strings.HasPrefix(v.Err().Error(), want) {
			t.Errorf("with a UKI that is none, %s: %v, %v", path, err, v.Err())
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

// readKeys are those that the initramfs of an output trusts.
func readKeys(t *testing.T, out string) []Key {
	t.Helper()
	keys, err := keysOf(read(t, filepath.Join(out, initramfsFile)))
	if err != nil {
		t.Fatal(err)
	}
	return keys
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
