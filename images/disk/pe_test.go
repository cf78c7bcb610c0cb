package disk

import (
	"bytes"
	"debug/pe"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/foxboron/go-uefi/authenticode"
)

// program64 is the least PE32+ program: headers, and one section of code.
func program64(t testing.TB) []byte {
	t.Helper()
	const at, optional = 0x40, 240
	b := make([]byte, 0x400)
	copy(b, "MZ")
	le.PutUint32(b[atPEOffset:], at)
	copy(b[at:], "PE\x00\x00")
	le.PutUint16(b[at+4:], pe.IMAGE_FILE_MACHINE_AMD64)
	le.PutUint16(b[at+atSections:], 1)
	le.PutUint16(b[at+atOptionalSize:], optional)
	le.PutUint16(b[at+sizeOfFileHeader:], magicPE32Plus)
	le.PutUint32(b[at+atSectionAlign:], 4096)
	le.PutUint32(b[at+atFileAlign:], 512)
	le.PutUint32(b[at+atHeadersSize:], 512)
	le.PutUint32(b[at+atDirectories:], 16)
	head := b[at+sizeOfFileHeader+optional:]
	copy(head, ".text")
	le.PutUint32(head[8:], 100)    // in memory
	le.PutUint32(head[12:], 4096)  // where there
	le.PutUint32(head[16:], 0x200) // in the file
	le.PutUint32(head[20:], 0x200)
	copy(b[0x200:], "code")
	return b
}

func TestAUKIHasEachPartUnderItsName(t *testing.T) {
	stub := program64(t)
	le.PutUint32(stub[0x40+atSymbols:], 0x400) // a table that is dropped
	u := UKI{Stub: stub, OSRelease: []byte("ID=veneer\n"), Cmdline: "console=ttyS0 quiet", Uname: "6.1.0", Initramfs: bytes.Repeat([]byte("i"), 5000),
		Kernel: append([]byte("MZ"), bytes.Repeat([]byte("k"), 3000)...), Splash: []byte("BM...")}
	image, err := u.Image()
	if err != nil {
		t.Fatal(err)
	}
	f, err := pe.NewFile(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	end := uint32(0)
	for name, want := range map[string][]byte{".osrel": u.OSRelease, ".cmdline": []byte(u.Cmdline), ".uname": []byte(u.Uname), ".splash": u.Splash, ".initrd": u.Initramfs, ".linux": u.Kernel} {
		s := f.Section(name)
		if s == nil {
			t.Errorf("section %s is missing", name)
			continue
		}
		content, err := s.Data()
		if err != nil || !bytes.Equal(content[:s.VirtualSize], want) || int(s.VirtualSize) != len(want) {
			t.Errorf("section %s holds %d bytes, %v; want %d", name, s.VirtualSize, err, len(want))
		}
		if s.VirtualAddress%page != 0 {
			t.Errorf("section %s lies at %#x, which is no page", name, s.VirtualAddress)
		}
		end = max(end, s.VirtualAddress+s.VirtualSize)
	}
	if last := f.Sections[len(f.Sections)-1]; last.Name != ".linux" || end != last.VirtualAddress+last.VirtualSize {
		t.Errorf("the last section is %s: a kernel that unpacks itself in place would write over others", last.Name)
	}
	head := f.OptionalHeader.(*pe.OptionalHeader64)
	if head.SizeOfImage != up(end, 4096) || head.CheckSum != checksum(image, 0x40+atChecksum) {
		t.Errorf("size of the image %#x, checksum %#x", head.SizeOfImage, head.CheckSum)
	}
	if f.PointerToSymbolTable != 0 {
		t.Error("the table of symbols is still named")
	}
}

func TestWhatCannotBeAUKIIsRefused(t *testing.T) {
	good := UKI{Stub: program64(t), Initramfs: []byte("i"), Kernel: []byte("MZ")}
	twice, err := AddSections(program64(t), Section{".linux", []byte("k")})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		change     func(*UKI)
	}{
		{"without a kernel", "needs a kernel", func(u *UKI) { u.Kernel = nil }},
		{"a kernel without an EFI stub", "CONFIG_EFI_STUB", func(u *UKI) { u.Kernel = []byte("\x1f\x8b") }},
		{"a command line that no kernel takes", "2047", func(u *UKI) { u.Cmdline = strings.Repeat("x", maxCmdline) }},
		{"a command line of two lines", "no text", func(u *UKI) { u.Cmdline = "a\nb" }},
		{"a splash that is no BMP", "BMP", func(u *UKI) { u.Splash = []byte("PNG") }},
		{"a stub that is a UKI", "no bare stub", func(u *UKI) { u.Stub = twice }},
		{"a stub that is a text", "MZ", func(u *UKI) { u.Stub = []byte("hello") }},
		{"a stub with its code where the headers are to be", "and the headers reach to", func(u *UKI) {
			u.Stub = bytes.Clone(u.Stub)
			le.PutUint32(u.Stub[0x40+sizeOfFileHeader+240+12:], 256)
		}},
		{"a stub whose sections lie in each other", `and section ".text" reach to`, func(u *UKI) { u.Stub = overlapping(t) }},
		{"a stub of as many sections as there can be", "sections are more than 64", func(u *UKI) { u.Stub = crowded(t) }},
		{"a stub that is cut off", "PE", func(u *UKI) { u.Stub = u.Stub[:0x80] }},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := good
			c.change(&u)
			if _, err := u.Image(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// overlapping is a program with a second section in the middle of the first.
func overlapping(t *testing.T) []byte {
	t.Helper()
	b, err := AddSections(program64(t), Section{".data", []byte("data")})
	if err != nil {
		t.Fatal(err)
	}
	le.PutUint32(b[0x40+sizeOfFileHeader+240+sizeOfSectionHead+12:], 4096+50)
	return b
}

// crowded is a program with as many sections as are taken.
func crowded(t *testing.T) []byte {
	t.Helper()
	var more []Section
	for i := range maxSections - 1 {
		more = append(more, Section{fmt.Sprintf(".s%d", i), []byte("x")})
	}
	b, err := AddSections(program64(t), more...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAProgramTellsItsMachineAndItsSections(t *testing.T) {
	b := program64(t)
	if arch, err := Architecture(b); arch != "amd64" || err != nil {
		t.Errorf("Architecture() = %q, %v", arch, err)
	}
	s, _ := testSigner(t)
	full, err := AddSections(b, Section{".linux", []byte("kernel")})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign(full)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		program []byte
		signed  bool
	}{{full, false}, {signed, true}} {
		sections, signed, err := Sections(c.program)
		if err != nil || signed != c.signed || len(sections) != 2 || string(sections[1].Content) != "kernel" {
			t.Errorf("Sections() = %q, %v, %v; want the kernel, signed %v", sections, signed, err, c.signed)
		}
	}
	le.PutUint16(b[0x40+atMachine:], 0x14c)
	if _, err := Architecture(b); err == nil {
		t.Error("a program for another machine is taken")
	}
	if _, _, err := Sections(b[:0x80]); err == nil {
		t.Error("a program that is cut off is taken")
	}
}

// testSigner makes a key as SecureBootKeys does, and keeps its certificate in a file.
func testSigner(t *testing.T) (Signer, string) {
	t.Helper()
	s, err := newSigner("test")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "db.crt")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: pemCert, Bytes: s.Certificate.Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	return s, file
}

func TestASignatureIsTakenByOtherToolsAndIsTheSameEachTime(t *testing.T) {
	s, cert := testSigner(t)
	program := program64(t)
	signed, err := s.Sign(program)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Sign(signed) // in the place of the former
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(signed, again) {
		t.Error("the same program signed twice differs")
	}
	parsed, err := authenticode.Parse(bytes.NewReader(signed))
	if err != nil {
		t.Fatal(err)
	}
	if sigs, err := parsed.Signatures(); err != nil || len(sigs) != 1 {
		t.Errorf("%d signatures, %v; want one", len(sigs), err)
	}
	file := filepath.Join(t.TempDir(), "program.efi")
	verify := func(content []byte) error {
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return exec.Command("sbverify", "--cert", cert, file).Run()
	}
	if err := verify(signed); errors.Is(err, exec.ErrNotFound) {
		t.Skip("sbverify is missing: apt-get install sbsigntool")
	} else if err != nil {
		t.Errorf("sbverify refuses it: %v", err)
	}
	for _, at := range []int{0x200, 0x240} {
		bad := bytes.Clone(signed)
		bad[at] ^= 1
		if verify(bad) == nil {
			t.Errorf("sbverify takes it with another byte at %#x", at)
		}
	}
}

func TestAKeyWithTheCertificateOfAnotherIsRefused(t *testing.T) {
	keys, err := SecureBootKeys("test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseSigner(keys["db.key"], keys["db.crt"]); err != nil {
		t.Errorf("a pair is refused: %v", err)
	}
	if _, err := ParseSigner(keys["db.key"], keys["KEK.crt"]); err == nil || !strings.Contains(err.Error(), "not that of the key") {
		t.Errorf("db.key with KEK.crt: %v", err)
	}
	if _, err := ParseSigner(keys["db.crt"], keys["db.crt"]); err == nil {
		t.Error("a certificate is taken for a key")
	}
}

func FuzzAddSections(f *testing.F) {
	good := program64(f)
	signed := bytes.Clone(good)
	le.PutUint32(signed[0x40+atCertificates:], 0x400)
	f.Add(good)
	f.Add(signed)
	f.Add(good[:0x180])
	f.Fuzz(func(t *testing.T, program []byte) {
		image, err := AddSections(program, Section{".new", []byte("content")})
		if err != nil {
			return
		}
		if len(image) > 2*len(program)+1<<20 && len(image) > maxSections*len(program)+1<<20 {
			t.Fatalf("%d bytes became %d", len(program), len(image))
		}
		file, err := parse(image)
		if err != nil {
			t.Fatalf("the result is refused: %v", err)
		}
		if got := nameOf(file.heads[len(file.heads)-1]); got != ".new" {
			t.Fatalf("the last section is %q", got)
		}
		_, _ = Unsigned(program) // does not panic
	})
}
