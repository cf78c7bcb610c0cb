package build

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// isoProject is a project whose output is an ISO.
func isoProject(t *testing.T, more string) project {
	t.Helper()
	p := mediaProject(t, more)
	if _, err := findTool("xorriso"); err != nil {
		t.Skip(err)
	}
	for _, file := range []string{isoLoader, isoModule} {
		if _, err := os.Stat(file); err != nil {
			t.Skipf("%v: .ci/install test", err)
		}
	}
	path := filepath.Join(p.dir, "veneer.toml")
	write(t, path, strings.Replace(string(read(t, path)), `["uki", "disk"]`, `["iso"]`, 1))
	return p
}

func TestAnISOIsTakenByOtherToolsAndIsTheSameEachTime(t *testing.T) {
	p := isoProject(t, "menu = true\n")
	out := p.build(t, nil)
	iso := filepath.Join(out, outISO)
	run := func(name string, args ...string) string {
		t.Helper()
		path, err := findTool(name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := exec.Command(path, args...).CombinedOutput()
		if err != nil {
			t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, text)
		}
		return string(text)
	}
	if said := run("sfdisk", "--verify", iso); !strings.Contains(said, "No errors") {
		t.Errorf("sfdisk: %s", said)
	}
	said := run("xorriso", "-no_rc", "-indev", "stdio:"+iso, "-report_el_torito", "plain", "-find", "/", "-type", "f", "-exec", "lsdl", "--")
	for _, want := range []string{`boot img : +1 +BIOS +y +none`, `boot img : +2 +UEFI +y +none`, `-r--r--r-- +1 0 +0 .*'/veneer/images/[0-9a-f]{64}\.img'`, `'/veneer/deployments/1/manifest\.json\.minisig'`} {
		if !regexp.MustCompile(want).MatchString(said) {
			t.Errorf("xorriso does not show %q:\n%s", want, said)
		}
	}
	esp, found, err := espOfISO(iso)
	if err != nil || !found {
		t.Fatalf("espOfISO() = %v, %v", found, err)
	}
	part := filepath.Join(t.TempDir(), "esp")
	write(t, part, string(read(t, iso)[esp.Start:esp.Start+esp.Size]))
	run("fsck.fat", "-n", part)
	if listed := run("mdir", "-i", part, "-a", "-b", "-/", "::"); !strings.Contains(listed, "::/EFI/BOOT/BOOTX64.EFI") || !strings.Contains(listed, "::/EFI/Linux/test-1.2.efi") {
		t.Errorf("the EFI system partition holds %s", listed)
	}

	i, err := Inspect(iso)
	if err != nil {
		t.Fatal(err)
	}
	if i.Kind != KindISO || i.ISO.Label != "TEST" || strings.Join(i.ISO.Boots, " ") != "uefi bios" || i.Manifest == nil || i.Signature == nil {
		t.Errorf("Inspect() = %+v, %+v", i, i.ISO)
	}
	again := p.build(t, func(*Spec) { t.Setenv("TZ", "Asia/Tokyo") })
	if !bytes.Equal(read(t, filepath.Join(again, outISO)), read(t, iso)) {
		t.Error("the ISO differs from build to build")
	}
	config := run("xorriso", "-no_rc", "-osirrox", "on", "-indev", "stdio:"+iso, "-concat", "append", "-", "/isolinux/isolinux.cfg", "--")
	if want := "APPEND console=ttyS0 quiet veneer.store=UUID=" + i.ISO.UUID; !strings.Contains(config, want) {
		t.Errorf("isolinux.cfg lacks %q:\n%s", want, config)
	}
}

func TestAnISOOfTheBeginningOfTimeIsTheSameEachTime(t *testing.T) {
	p := isoProject(t, "firmware = [\"bios\"]\n")
	epoch := func(s *Spec) { s.Epoch = new(time.Time); *s.Epoch = time.Unix(0, 0) }
	one := read(t, filepath.Join(p.build(t, epoch), outISO))
	time.Sleep(1100 * time.Millisecond) // a second is what a date on an ISO tells
	if two := read(t, filepath.Join(p.build(t, epoch), outISO)); !bytes.Equal(one, two) {
		t.Error("the ISO differs from build to build")
	}
}

func TestAnISOIsHeldAgainstItsManifest(t *testing.T) {
	p := isoProject(t, "")
	out := p.build(t, nil)
	iso := filepath.Join(out, outISO)
	verify := func(path string) string {
		t.Helper()
		v, err := Verify(context.Background(), VerifySpec{Path: path})
		if err != nil {
			return err.Error()
		}
		if err := v.Err(); err != nil {
			return err.Error()
		}
		return "good"
	}
	for _, path := range []string{out, iso} {
		if got := verify(path); got != "good" {
			t.Errorf("Verify(%s): %s", path, got)
		}
	}
	whole := read(t, iso)
	lone := filepath.Join(t.TempDir(), "lone.iso")
	write(t, lone, string(whole))
	if v, err := Verify(t.Context(), VerifySpec{Path: lone}); err != nil || v.Err() != nil || len(v.Keys) != 1 || !strings.Contains(v.KeysFrom, "the initramfs on the ISO") || len(v.Notes) != 0 {
		t.Errorf("the ISO outside of its output: %v, %v, %+v", err, v.Err(), v)
	}
	if os.Getuid() != 0 {
		t.Log("a stick with it was not verified: a loop device takes root: sudo go test")
	} else {
		loop, err := exec.Command("losetup", "-f", "--show", "-r", lone).Output()
		if err != nil {
			t.Fatalf("losetup: %v", err)
		}
		stick := strings.TrimSpace(string(loop))
		if got := verify(stick); got != "good" {
			t.Errorf("Verify(%s): %s", stick, got)
		}
		if err := exec.Command("losetup", "-d", stick).Run(); err != nil {
			t.Errorf("losetup -d: %v", err)
		}
	}
	var base []byte
	for _, b := range files(t, filepath.Join(out, "images")) {
		base = b
	}
	initramfs := read(t, filepath.Join(out, outInitramfs))
	for name, c := range map[string]struct {
		spoil       func([]byte) []byte
		alone, with string
	}{
		"an image in the store":     {func(b []byte) []byte { b[bytes.Index(b, base[:4096])+100] ^= 1; return b }, "deployment 1: ", "disk.iso, store: images/"},
		"the initramfs for a BIOS":  {func(b []byte) []byte { b[bytes.Index(b, initramfs)+100] ^= 1; return b }, "boot/initrd: it has sha256", "boot/initrd: it has sha256"},
		"the initramfs in the UKI":  {func(b []byte) []byte { b[bytes.LastIndex(b, initramfs)+100] ^= 1; return b }, "section .initrd", "section .initrd"},
		"the end cut off":           {func(b []byte) []byte { return b[:300<<10] }, "", ""},
		"both partition tables":     {func(b []byte) []byte { clear(b[512:1024]); clear(b[len(b)-512:]); return b }, "partitions: ", "partitions: "},
		"the first directory block": {func(b []byte) []byte { clear(b[18*2048 : 60*2048]); return b }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, iso, string(c.spoil(bytes.Clone(whole))))
			for path, want := range map[string]string{iso: c.alone, out: c.with} {
				if got := verify(path); got == "good" || !strings.Contains(got, want) {
					t.Errorf("Verify(%s): %s; want an error with %q", path, got, want)
				}
			}
		})
	}
}

func TestAnISOForOneKindOfFirmwareHasNothingOfTheOther(t *testing.T) {
	for firmware, want := range map[string]string{FirmwareUEFI: "uefi", FirmwareBIOS: "bios"} {
		p := isoProject(t, "firmware = [\""+firmware+"\"]\n")
		out := p.build(t, nil)
		i, err := Inspect(filepath.Join(out, outISO))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(i.ISO.Boots, " "); got != want {
			t.Errorf("an ISO for %s boots from %q", firmware, got)
		}
		if said, err := exec.Command("sfdisk", "--verify", filepath.Join(out, outISO)).CombinedOutput(); err != nil {
			t.Errorf("sfdisk: %v\n%s", err, said)
		}
	}
}

func TestTheUUIDOfAnISOIsOneOfItsManifestAndItsLabelOneOfItsName(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	one, two := isoDate(at, []byte("one")), isoDate(at, []byte("two"))
	if !regexp.MustCompile(`^20260304([01]\d|2[0-3])[0-5]\d[0-5]\d\d\d$`).MatchString(one) || one == two || one != isoDate(at, []byte("one")) {
		t.Errorf("isoDate() = %s, %s", one, two)
	}
	if got := isoLabel("kiosk-1.2 ü" + strings.Repeat("x", 40)); got != "KIOSK_1_2__XXXXXXXXXXXXXXXXXXXXX" {
		t.Errorf("isoLabel() = %q", got)
	}
	for given, want := range map[string]string{"": "veneer.store=UUID=2026-03-04-00-00-00-00", "quiet": "quiet veneer.store=UUID=2026-03-04-00-00-00-00", "veneer.store=LABEL=X": "veneer.store=LABEL=X"} {
		if got, err := isoCmdline(given, "2026030400000000"); err != nil || got != want {
			t.Errorf("isoCmdline(%q) = %q, %v; want %q", given, got, err, want)
		}
	}
}
