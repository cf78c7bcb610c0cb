//go:build !onboard

package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// newTinyProject makes a directory with all that a build wants: a kernel of which only the header is there, a tar archive with an
// init that could run, and a key made with these flags. The working directory is changed to it.
func newTinyProject(t *testing.T, protection ...string) {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for program, pkg := range map[string]string{"mksquashfs": "squashfs-tools", "mke2fs": "e2fsprogs", "debugfs": "e2fsprogs", "zstd": "zstd"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed: apt-get install %s", program, pkg)
		}
	}
	t.Chdir(t.TempDir())
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	kernel := make([]byte, 0x400) // the kernel's Documentation/arch/x86/boot.rst
	copy(kernel[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(kernel[0x20e:], 0x80)
	binary.LittleEndian.PutUint16(kernel[0x236:], 1)
	copy(kernel[0x280:], "6.1.0-tiny (builder@host) #1 SMP")
	for name, content := range map[string]string{"kernel": string(kernel), "tree.tar": tinyTree(t), "passphrase": "open sesame\n", "wrong": "open barley\n",
		"veneer.toml": `name = "tiny"
version = "1"
source = "tree.tar"
kernel.from = "kernel"
keys.secret = "tiny.key"
`} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, errs := veneer(t, append([]string{"keygen", "-o", "tiny.key"}, protection...)...); code != 0 {
		t.Fatalf("veneer keygen = %d, %s", code, errs)
	}
}

// tinyTree is an archive of three files, one of them the head of a program.
func tinyTree(t *testing.T) string {
	t.Helper()
	var program bytes.Buffer
	head := elf.Header64{Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: 64}
	if err := binary.Write(&program, binary.LittleEndian, head); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, content string) {
		h.ModTime, h.Size = time.Unix(1600000000, 0), int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	add(tar.Header{Name: "./sbin/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	add(tar.Header{Name: "./sbin/init", Mode: 0o755}, program.String())
	add(tar.Header{Name: "./etc/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	add(tar.Header{Name: "./etc/hostname", Mode: 0o644}, "tiny\n")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestBuildMakesOfAnArchiveWhatVerifyAccepts(t *testing.T) {
	newTinyProject(t, "--no-passphrase")
	code, out, errs := veneer(t, "build", "--dry-run")
	for _, want := range []string{"base from ", "tree.tar: ", "mksquashfs"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("veneer build --dry-run = %d, want %q in:\n%s%s", code, want, out, errs)
		}
	}
	if _, err := os.Lstat("out"); err == nil {
		t.Error("veneer build --dry-run made an output")
	}
	code, out, errs = veneer(t, "build")
	if code != 0 {
		t.Fatalf("veneer build = %d\n%s%s", code, out, errs)
	}
	for _, want := range []string{"built      tiny 1 (epoch 0, amd64) in out\n", "kernel     6.1.0-tiny", "image      tools ", "image      base ", "signed     with key "} {
		if !strings.Contains(out, want) {
			t.Errorf("veneer build prints no %q:\n%s", want, out)
		}
	}
	for _, want := range []string{"base: ", "store: "} {
		if !strings.Contains(errs, want) || strings.Contains(errs, "\x1b") {
			t.Errorf("veneer build shows no plain %q of its progress:\n%s", want, errs)
		}
	}
	for _, words := range [][]string{{"verify"}, {"verify", "--key", "tiny.pub"}, {"verify", "--key", "tiny.pub", "out/store.img"}, {"inspect"}, {"plan", "--manifest", "out"}} {
		if code, out, errs := veneer(t, words...); code != 0 {
			t.Errorf("veneer %v = %d\n%s%s", words, code, out, errs)
		}
	}
	first, err := os.ReadFile("out/manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	code, out, errs = veneer(t, "build", "--json", "-f", "veneer.toml", "-o", "again")
	var report struct {
		Out      string
		Manifest struct{ Name, Architecture string }
		Signed   string
		Warnings []string
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 || report.Out != "again" || report.Manifest.Name != "tiny" ||
		report.Manifest.Architecture != "amd64" || report.Signed == "" || len(report.Warnings) > 0 {
		t.Errorf("veneer build --json = %d, %v: %+v\n%s%s", code, err, report, out, errs)
	}
	second, err := os.ReadFile("again/manifest.json")
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("a second build makes another manifest: %v\n%s\n%s", err, first, second)
	}
}

func TestBuildSaysWhatIsWrongAndLeavesTheOutput(t *testing.T) {
	newTinyProject(t, "--passphrase-file", "passphrase")
	for _, c := range []struct {
		name  string
		epoch string
		words []string
		code  int
		says  string
	}{
		{"no veneer.toml", "", []string{"-f", "none.toml"}, exitFailed, "none.toml"},
		{"a file that is none", "", []string{"-f", "passphrase"}, exitFailed, "passphrase"},
		{"a wrong passphrase", "", []string{"--passphrase-file", "wrong"}, exitFailed, "the passphrase is wrong"},
		{"no passphrase, and nobody to ask", "", nil, exitFailed, "give --passphrase-file"},
		{"no name for the output", "", []string{"-o", ""}, exitUsage, "-o: want the name of a directory"},
		{"an argument", "", []string{"tree.tar"}, exitUsage, "See 'veneer help build'"},
		{"a date for SOURCE_DATE_EPOCH", "2026-01-01", nil, exitUsage, `SOURCE_DATE_EPOCH="2026-01-01": want seconds`},
		{"the right passphrase, and an output that is a file", "", []string{"-o", "kernel", "--passphrase-file", "passphrase"}, exitFailed, "output directory: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.epoch != "" {
				t.Setenv("SOURCE_DATE_EPOCH", c.epoch)
			}
			noTerminal(t)
			code, out, errs := veneer(t, append([]string{"build"}, c.words...)...)
			if code != c.code || !strings.Contains(errs, c.says) || out != "" {
				t.Errorf("veneer build %v = %d, want %d and %q in:\n%s%s", c.words, code, c.code, c.says, out, errs)
			}
			if left, err := filepath.Glob("out*"); err != nil || len(left) > 0 {
				t.Errorf("veneer build %v left %v, %v", c.words, left, err)
			}
		})
	}
}

// noTerminal takes the standard input away, so that nobody is asked.
func noTerminal(t *testing.T) {
	t.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	in := os.Stdin
	os.Stdin = null
	t.Cleanup(func() {
		os.Stdin = in
		null.Close()
	})
}
