package build

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// mediaProject is a project whose outputs firmware could boot.
func mediaProject(t *testing.T, more string) project {
	t.Helper()
	for _, name := range []string{"mkfs.fat", "mmd", "mcopy", "syslinux", "fsck.fat", "sfdisk", "e2fsck"} {
		if _, err := findTool(name); err != nil {
			t.Skip(err)
		}
	}
	for _, file := range []string{"/usr/lib/systemd/boot/efi/linuxx64.efi.stub", bootCode} {
		if _, err := os.Stat(file); err != nil {
			t.Skipf("%v: .ci/install test", err)
		}
	}
	p := newProject(t, `outputs = ["uki", "disk"]
[boot]
cmdline = "console=ttyS0 quiet"
`+more)
	kernel := testKernel()
	copy(kernel, "MZ") // an EFI program
	write(t, filepath.Join(p.dir, "kernel"), string(kernel))
	return p
}

func TestADiskIsTakenByOtherToolsAndIsTheSameEachTime(t *testing.T) {
	p := mediaProject(t, "menu = true\nkey = \"keys/db.key\"\ncert = \"keys/db.crt\"\nenroll = \"keys\"\n")
	if _, err := GenerateSecureBootKeys(filepath.Join(p.dir, "keys")); err != nil {
		t.Fatal(err)
	}
	out := p.build(t, nil)
	run := func(name string, args ...string) string {
		t.Helper()
		path, err := findTool(name)
		if err != nil {
			path = name
		}
		text, err := exec.Command(path, args...).CombinedOutput()
		if err != nil {
			t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, text)
		}
		return string(text)
	}
	disk := filepath.Join(out, outDisk)
	if said := run("sfdisk", "--verify", disk); !strings.Contains(said, "No errors") {
		t.Errorf("sfdisk: %s", said)
	}
	table := run("sfdisk", "-d", disk)
	if !strings.Contains(table, "LegacyBIOSBootable") || !strings.Contains(table, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B") {
		t.Errorf("the EFI system partition is not told: %s", table)
	}
	image := read(t, disk)
	var parts []string
	for i, place := range regexp.MustCompile(`start= *(\d+), size= *(\d+)`).FindAllStringSubmatch(table, -1) {
		start, _ := strconv.Atoi(place[1]) // digits
		size, _ := strconv.Atoi(place[2])
		parts = append(parts, filepath.Join(t.TempDir(), strconv.Itoa(i)))
		write(t, parts[i], string(image[start*512:(start+size)*512]))
	}
	if len(parts) != 2 {
		t.Fatalf("%d partitions, want 2:\n%s", len(parts), table)
	}
	esp, store := parts[0], parts[1]
	run("fsck.fat", "-n", esp)
	run("e2fsck", "-fn", store)
	listed := run("mdir", "-i", esp, "-a", "-b", "-/", "::")
	for _, name := range []string{"::/EFI/BOOT/BOOTX64.EFI", "::/EFI/Linux/test-1.2.efi", "::/loader/keys/auto/db.auth", "::/syslinux/ldlinux.sys", "/vmlinuz"} {
		if !strings.Contains(listed, name) {
			t.Errorf("%s is missing from the EFI system partition:\n%s", name, listed)
		}
	}
	again := p.build(t, func(s *Spec) { t.Setenv("TZ", "Asia/Tokyo") })
	for _, name := range []string{outDisk, outUKI} {
		if !bytes.Equal(read(t, filepath.Join(again, name)), read(t, filepath.Join(out, name))) {
			t.Errorf("%s differs from build to build", name)
		}
	}
	if _, err := os.Stat(filepath.Join(out, outStore)); err == nil {
		t.Error("the store was left behind, which was not asked for")
	}
}

// Each form of the disk is the same disk.
func TestADiskComesAsQcow2AndCompressed(t *testing.T) {
	for _, name := range []string{"qemu-img", "zstd"} {
		if _, err := findTool(name); err != nil {
			t.Skip(err)
		}
	}
	p := mediaProject(t, "sbat = \"lines\"\n")
	write(t, filepath.Join(p.dir, "lines"), "kiosk,2,Example,kiosk,1.2,https://example.com\n")
	toml := filepath.Join(p.dir, "veneer.toml")
	write(t, toml, strings.Replace(string(read(t, toml)), `outputs = ["uki", "disk"]`, `outputs = ["disk.qcow2", "disk", "disk.img.zst"]`, 1))
	out := p.build(t, nil)
	raw := read(t, filepath.Join(out, outDisk))
	again := p.build(t, func(*Spec) { t.Setenv("ZSTD_NBTHREADS", "3") })
	for _, name := range []string{outQcow2, outZstd} {
		path := filepath.Join(out, name)
		got, done, err := rawDisk(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(read(t, got), raw) {
			t.Errorf("%s unpacks to another disk", name)
		}
		done()
		if _, err := os.Stat(got); err == nil {
			t.Errorf("%s: the unpacked disk was left", name)
		}
		packed := read(t, path)
		if !bytes.Equal(packed, read(t, filepath.Join(again, name))) {
			t.Errorf("%s differs from build to build", name)
		}
		if len(packed)*2 > len(raw) {
			t.Errorf("%s has %d bytes of %d", name, len(packed), len(raw))
		}
	}
	// Alone, without the output that they are of.
	alone := t.TempDir()
	for _, name := range []string{outDisk, outQcow2, outZstd} {
		path := filepath.Join(alone, name)
		write(t, path, string(read(t, filepath.Join(out, name))))
		v, err := Verify(t.Context(), VerifySpec{Path: path})
		if err != nil || v.Err() != nil || v.Kind != KindDisk || !strings.Contains(v.KeysFrom, "the initramfs on the disk") {
			t.Errorf("%s alone: %v, %v, %+v", name, err, v.Err(), v)
		}
		var text strings.Builder
		i, err := Inspect(path)
		if err != nil || i.WriteText(&text) != nil {
			t.Fatalf("%s alone: %v", name, err)
		}
		for _, want := range []string{"1 veneer-esp", "2 veneer-store", "UKI of test 1.2", "command line: console=ttyS0 quiet", "1: test 1.2", "sectors of 512"} {
			if !strings.Contains(text.String(), want) {
				t.Errorf("%s: it prints %s; want %q", name, text.String(), want)
			}
		}
	}
	spoiled := bytes.Clone(raw)
	clear(spoiled[512:1024])
	write(t, filepath.Join(alone, outDisk), string(spoiled))
	v, err := Verify(t.Context(), VerifySpec{Path: filepath.Join(alone, outDisk)})
	if err != nil || v.Err() == nil || !strings.Contains(v.Err().Error(), "partition table: the first copy is damaged") || len(v.Checks) < 5 {
		t.Errorf("with a damaged first table: %v, %v", err, v.Checks)
	}
	v, err = Verify(t.Context(), VerifySpec{Path: out})
	if err != nil || v.Err() != nil || len(v.Checks) < 10 {
		t.Errorf("the whole output: %v %v %v", err, v.Err(), v.Checks)
	}
	tool, err := findTool("qemu-img")
	if err != nil {
		t.Fatal(err)
	}
	for name, options := range map[string][]string{"backed": {"-b", filepath.Join(out, outDisk), "-F", "raw"}, "parted": {"-o", "data_file=" + filepath.Join(alone, "data")}} {
		part := filepath.Join(alone, name)
		run(t, "qemu-utils", append(append([]string{tool, "create", "-q", "-f", "qcow2"}, options...), part, "160M")...)
		if v, err := Verify(t.Context(), VerifySpec{Path: part}); err == nil || !strings.Contains(err.Error(), "names another file") {
			t.Errorf("a qcow2 that is %s: %v, %v", name, err, v.Checks)
		}
	}
	if err := os.Truncate(filepath.Join(out, outQcow2), 1<<20); err != nil {
		t.Fatal(err)
	}
	if v, err = Verify(t.Context(), VerifySpec{Path: out}); err != nil || v.Err() == nil || !strings.Contains(v.Err().Error(), "disk.qcow2: ") {
		t.Errorf("a qcow2 that was cut off: %v %v", err, v.Err())
	}
}

func TestADiskOfLargeSectorsIsTakenByOtherTools(t *testing.T) {
	p := mediaProject(t, "sector = 4096\nmenu = true\n")
	out := p.build(t, nil)
	disk := filepath.Join(out, outDisk)
	d, err := openDisk(disk)
	if err != nil || d.sector != 4096 {
		t.Fatalf("sectors of %d: %v", d.sector, err)
	}
	if os.Getuid() != 0 {
		t.Log("sfdisk was not asked: a loop device with large sectors takes root: sudo go test")
	} else {
		loop, err := exec.Command("losetup", "-f", "--show", "-r", "--sector-size", "4096", disk).Output()
		if err != nil {
			t.Fatalf("losetup: %v", err)
		}
		device := strings.TrimSpace(string(loop))
		if said, err := exec.Command("/usr/sbin/sfdisk", "--verify", device).CombinedOutput(); err != nil || !strings.Contains(string(said), "No errors") {
			t.Errorf("sfdisk: %v %s", err, said)
		}
		if v, err := Verify(t.Context(), VerifySpec{Path: device}); err != nil || v.Err() != nil || v.Kind != KindDisk {
			t.Errorf("the disk as a device: %v, %v, %+v", err, v.Err(), v)
		}
		if err := exec.Command("losetup", "-d", device).Run(); err != nil {
			t.Errorf("losetup -d: %v", err)
		}
	}
	esp := filepath.Join(t.TempDir(), "esp")
	write(t, esp, string(read(t, disk)[d.esp.Start:d.esp.Start+d.esp.Size]))
	if said, err := exec.Command("/usr/sbin/fsck.fat", "-n", esp).CombinedOutput(); err != nil {
		t.Errorf("fsck.fat: %v %s", err, said)
	}
	v, err := Verify(t.Context(), VerifySpec{Path: out})
	if err != nil || v.Err() != nil {
		t.Errorf("%v %v", err, v.Err())
	}
	if _, err := os.Stat(filepath.Join(out, outUKI)); err != nil {
		t.Error(err)
	}
}

// What other tools say of a UKI, signed as for Secure Boot.
func TestAUKIIsReadByOtherToolsAndAddsLittle(t *testing.T) {
	for _, name := range []string{"objdump", "sbverify"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%v: .ci/install test", err)
		}
	}
	p := mediaProject(t, "key = \"keys/db.key\"\ncert = \"keys/db.crt\"\nsbat = \"lines\"\n")
	write(t, filepath.Join(p.dir, "lines"), "kiosk,2,Example,kiosk,1.2,https://example.com\n")
	if _, err := GenerateSecureBootKeys(filepath.Join(p.dir, "keys")); err != nil {
		t.Fatal(err)
	}
	uki := filepath.Join(p.build(t, nil), outUKI)
	sections, err := exec.Command("objdump", "-h", uki).CombinedOutput()
	for _, name := range []string{".osrel", ".cmdline", ".uname", ".initrd", ".linux", ".sbat"} {
		if n := strings.Count(string(sections), " "+name+" "); err != nil || n != 1 {
			t.Errorf("objdump shows %d sections %s, want one: %v\n%s", n, name, err, sections)
		}
	}
	content := read(t, uki)
	sbat, err := sectionOf(content, ".sbat")
	for _, want := range []string{"sbat,1,SBAT Version", "\nsystemd,", "\nuki,1,UKI", "\nkiosk,2,Example"} {
		if err != nil || !strings.Contains(string(sbat), want) || strings.Count(string(sbat), "sbat,1,") != 2 {
			t.Errorf(".sbat has no %q: %v %s", want, err, sbat)
		}
	}
	cert := filepath.Join(p.dir, "keys/db.crt")
	if said, err := exec.Command("sbverify", "--cert", cert, uki).CombinedOutput(); err != nil {
		t.Errorf("sbverify: %v %s", err, said)
	}
	db, kek := cert, filepath.Join(p.dir, "keys/KEK.crt")
	ours := func(certs ...string) error {
		v, err := Verify(t.Context(), VerifySpec{Path: uki, Certs: certs})
		if err != nil {
			t.Fatal(err)
		}
		return v.Err()
	}
	if err := ours(kek, db); err != nil {
		t.Errorf("signed by the second of two: %v", err)
	}
	if err := ours(kek); err == nil || !strings.Contains(err.Error(), "KEK") {
		t.Errorf("signed by another: %v", err)
	}
	content[bytes.Index(content, []byte("console=ttyS0"))] ^= 1
	write(t, uki, string(content))
	if err := ours(db); err == nil || !strings.Contains(err.Error(), "signature") {
		t.Errorf("changed after it was signed: %v", err)
	}
}

func TestContradictionsOfBootMediaAreToldWithTheirLine(t *testing.T) {
	for text, want := range map[string]string{
		`cmdline = "veneer.wait=soon"`:         "boot.cmdline",
		`cmdline = "a\nb"`:                     "boot.cmdline",
		`firmware = ["efi"]`:                   `"efi" is neither`,
		`key = "k"`:                            "go together",
		`timeout = 5`:                          "boot.menu = true",
		"menu = true\nenroll = \"k\"":          "nothing that is not signed",
		"menu = true\nenroll-unasked = true":   "nothing to enroll",
		`free = "much"`:                        "boot.free",
		`sector = 2048`:                        "want 512 or 4096",
		"sector = 4096\nfirmware = [\"bios\"]": "no BIOS boots",
		`tries = 3`:                            "boot.menu = true",
		"menu = true\ntries = -1":              "boot.tries",
	} {
		_, err := ParseConfig("veneer.toml", []byte("name = \"a\"\nversion = \"1\"\nsource = \"s\"\nkeys.secret = \"k\"\n[boot]\n"+text))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "veneer.toml:") {
			t.Errorf("%s: %v; want an error with %q and its line", text, err, want)
		}
	}
}

func TestANameIsOneThatFATAndTheMenuTake(t *testing.T) {
	for name, want := range map[string]string{
		"kiosk-1.2":               "kiosk-1.2",
		"a b:c*d?e\"f|g<h>-1":     "a-b-c-d-e-f-g-h--1",
		"x-1+3":                   "x-1-3", // no count of tries
		"größe-1":                 "gr--e-1",
		".hidden-1":               "veneer-.hidden-1",
		"Auto-x-1":                "veneer-Auto-x-1",
		strings.Repeat("é", 400):  strings.Repeat("-", maxFATName),
		strings.Repeat("a.", 200): strings.Repeat("a.", maxFATName/2),
	} {
		if got := fatName(name); got != want {
			t.Errorf("fatName(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestADiskForOddNamesIsMade(t *testing.T) {
	for _, name := range []string{strings.Repeat("n", 250), `dots...  $(x)'` + "`" + ` ü`} {
		p := mediaProject(t, "menu = true\nfirmware = [\"uefi\"]\n")
		text := strings.Replace(string(read(t, filepath.Join(p.dir, "veneer.toml"))), `name = "test"`, "name = '''"+name+"'''", 1)
		write(t, filepath.Join(p.dir, "veneer.toml"), text)
		p.build(t, nil)
	}
}

func TestAStubForAnotherArchitectureIsRefused(t *testing.T) {
	p := mediaProject(t, "stub = \"stub\"\n")
	stub := read(t, "/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
	at := binary.LittleEndian.Uint32(stub[0x3c:])
	binary.LittleEndian.PutUint16(stub[at+4:], 0xaa64)
	write(t, filepath.Join(p.dir, "stub"), string(stub))
	_, err := Build(context.Background(), p.spec(t, filepath.Join(t.TempDir(), "out")))
	if err == nil || !strings.Contains(err.Error(), "it is for arm64, and the kernel for amd64") {
		t.Errorf("error %v, want one that names both architectures", err)
	}
}

func TestADiskAndAUKIAreHeldAgainstTheirManifest(t *testing.T) {
	p := mediaProject(t, "menu = true\n")
	out := p.build(t, nil)
	verify := func() string {
		t.Helper()
		v, err := Verify(context.Background(), VerifySpec{Path: out})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Err(); err != nil {
			return err.Error()
		}
		var what []string
		for _, c := range v.Checks {
			what = append(what, c.What+": "+c.Detail)
		}
		return strings.Join(what, "\n")
	}
	whole := verify()
	for _, want := range []string{"uki.efi: kernel and initramfs are", "disk.img, veneer-esp: 3 files of", "disk.img, veneer-store: 4 files are", "disk.img, veneer-store as ext4: the file system"} {
		if !strings.Contains(whole, want) {
			t.Errorf("checks %s; want one with %q", whole, want)
		}
	}
	i, err := Inspect(filepath.Join(out, outUKI))
	if err != nil {
		t.Fatal(err)
	}
	if i.Kind != KindUKI || i.UKI.Cmdline != "console=ttyS0 quiet" || i.UKI.Release != "6.1.0-test" || i.UKI.Signed || i.UKI.Architecture != "amd64" {
		t.Errorf("Inspect() = %+v, %+v", i, i.UKI)
	}
	var text strings.Builder
	if err := i.WriteText(&text); err != nil || !strings.Contains(text.String(), ".initrd, ") {
		t.Errorf("it prints %v %s", err, text.String())
	}
	image := read(t, filepath.Join(out, outDisk))
	uki, initramfs, base := read(t, filepath.Join(out, outUKI)), read(t, filepath.Join(out, outInitramfs)), files(t, filepath.Join(out, "images"))
	within := bytes.Index(uki, initramfs) // also on the disk, where it lies in one piece
	for _, c := range []struct {
		name, file string
		spoil      func([]byte)
		want       string
	}{
		{"the initramfs in the UKI", outUKI, func(b []byte) { b[within+100] ^= 1 }, "uki.efi: section .initrd has sha256"},
		{"the UKI cut off", outUKI, func(b []byte) { clear(b[:200]) }, "uki.efi: "},
		{"the UKI on the disk", outDisk, func(b []byte) { b[bytes.Index(b, uki)+within+100] ^= 1 }, "disk.img, veneer-esp: /EFI/Linux/test-1.2.efi: section .initrd"},
		{"the initramfs for a BIOS", outDisk, func(b []byte) {
			at := bytes.Index(b, uki)
			copy(b[at:], make([]byte, len(uki)))
			b[bytes.Index(b, initramfs)+100] ^= 1
			copy(b[at:], uki)
		}, "initramfs.cpio.zst: it has sha256"},
		{"an image in the store", outDisk, func(b []byte) {
			for _, img := range base {
				b[bytes.Index(b, img[:4096])+100] ^= 1
				return
			}
		}, "disk.img, veneer-store: veneer/images/"},
		{"both partition tables", outDisk, func(b []byte) { clear(b[:1024]); clear(b[len(b)-512:]) }, "disk.img: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(out, c.file)
			before := read(t, path)
			spoiled := bytes.Clone(before)
			c.spoil(spoiled)
			write(t, path, string(spoiled))
			if got := verify(); !strings.Contains(got, c.want) {
				t.Errorf("it says %s, want %q", got, c.want)
			}
			write(t, path, string(before))
		})
	}
	if !bytes.Equal(image, read(t, filepath.Join(out, outDisk))) {
		t.Error("the disk was changed by its verification")
	}
}

func TestTheSystemPartitionHasRoomForThreeSets(t *testing.T) {
	mediaProject(t, "") // for what has to be there
	s, err := newStage(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := &builder{stage: s, tools: map[string]string{}}
	for _, name := range []string{"mkfs.fat", "mmd", "mcopy"} {
		if b.tools[name], err = findTool(name); err != nil {
			t.Fatal(err)
		}
	}
	const set = 30<<20 + 1
	write(t, s.path("set"), string(noise(set)))
	if err := b.makeFAT(t.Context(), espFile, 512, roomForSets(set), []byte("manifest"), []espFileOf{{"EFI/Linux/one.efi", "set"}}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"two", "three"} {
		if err := b.mtool(t.Context(), "mcopy", "-i", espFile, "set", "::/EFI/Linux/"+name+".efi"); err != nil {
			t.Errorf("set %s: %v", name, err)
		}
	}
}
