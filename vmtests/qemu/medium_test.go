package qemu

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// bootDisk has a boot sector and nothing else.
var bootDisk = strings.Repeat("\x00", 510) + "\x55\xaa" + strings.Repeat("\x00", 1<<16-512)

// makeOutput writes the files of a build output that a VM needs.
func makeOutput(t *testing.T, manifest string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "out, [1]")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{kernelFile, initramfsFile} {
		writeFile(t, filepath.Join(dir, name), name)
	}
	writeFile(t, filepath.Join(dir, storeFile), strings.Repeat("\x00", 1<<16))
	writeFile(t, filepath.Join(dir, manifestFile), manifest)
	return dir
}

func TestMediumOfABuildOutput(t *testing.T) {
	dir := makeOutput(t, `{"architecture":"arm64"}`)
	m, err := OpenMedium(dir, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	want := VM{Arch: "arm64", Kernel: dir + "/vmlinuz", Initrd: dir + "/initramfs.cpio.zst", Append: []string{"console=ttyAMA0"},
		Disks: []Disk{{Path: m.State, Format: "qcow2", Bus: VirtioBlk}}}
	if diff := cmp.Diff(want, m.VM); diff != "" {
		t.Errorf("VM (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(dir, stateDir)); err == nil {
		t.Error("OpenMedium() wrote something")
	}
}

func TestStateIsKeptUntilTheBuildChanges(t *testing.T) {
	dir := makeOutput(t, `{"architecture":"amd64"}`)
	prepare := func(fresh bool) string {
		t.Helper()
		m, err := OpenMedium(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		release, err := m.Claim(soon(t), fresh)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		states, err := os.ReadDir(filepath.Join(dir, stateDir))
		if err != nil || len(states) != 1 || states[0].Name() != filepath.Base(m.State) {
			t.Fatalf("states = %v, %v; want only %s", states, err, m.State)
		}
		return m.State
	}
	mark := func(state string) { t.Helper(); writeFile(t, state, "used") }
	marked := func(state string) bool { t.Helper(); return readFile(t, state) == "used" }

	first := prepare(false)
	if out, err := exec.Command("qemu-img", "check", "-q", first).CombinedOutput(); err != nil {
		t.Errorf("qemu-img check: %v\n%s", err, out)
	}
	mark(first)
	if again := prepare(false); !marked(again) {
		t.Error("the second run got a new state")
	}
	if fresh := prepare(true); marked(fresh) {
		t.Error("a fresh run got the old state")
	}
	mark(first)
	writeFile(t, filepath.Join(dir, manifestFile), `{"architecture":"amd64","version":"2"}`)
	if next := prepare(false); next == first || marked(next) {
		t.Errorf("after another build the state is %s, as before", next)
	}
}

func TestMediumOfADiskFileBootsByItsFirmware(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk.img")
	writeFile(t, disk, bootDisk)
	m, err := OpenMedium(disk, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	if m.VM.Kernel != "" || m.VM.Arch != "amd64" || len(m.VM.Disks) != 1 {
		t.Errorf("VM = %+v, want an amd64 one with one disk and no kernel", m.VM)
	}
	release, err := m.Claim(soon(t), false)
	if err != nil {
		t.Fatal(err)
	}
	release()
}

func TestOpenMediumRefuses(t *testing.T) {
	incomplete := makeOutput(t, `{"architecture":"amd64"}`)
	if err := os.Remove(filepath.Join(incomplete, storeFile)); err != nil {
		t.Fatal(err)
	}
	blank := filepath.Join(t.TempDir(), "blank.img")
	writeFile(t, blank, strings.Repeat("\x00", 4096))
	store := filepath.Join(t.TempDir(), "store.img")
	writeFile(t, store, strings.Repeat("\x00", 1080)+"\x53\xef"+strings.Repeat("\x00", 4096-1082))
	cases := []struct{ name, path, want string }{
		{"what is not there", "/nonexistent", "no such file"},
		{"a directory without a manifest", t.TempDir(), "manifest.json: no such file"},
		{"a manifest that is cut", makeOutput(t, "{\n"), "manifest.json: line 2: want a manifest"},
		{"a manifest that is empty", makeOutput(t, ""), "manifest.json: line 1: want a manifest"},
		{"a manifest with a number for a text", makeOutput(t, "{\n\"architecture\": 5\n}\n"), "manifest.json: line 2: want a manifest"},
		{"a manifest of endless size", makeOutput(t, strings.Repeat(" ", maxManifest+1)), "larger than"},
		{"an architecture without a machine", makeOutput(t, `{"architecture":"vax"}`), `"vax"`},
		{"an output without a store", incomplete, `name the output "store"`},
		{"a disk without a boot sector", blank, "is not a disk to boot from, for it has no boot sector"},
		{"a bare file system", store, "is not a disk to boot from but a bare file system"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := OpenMedium(c.path, "amd64"); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("OpenMedium() = %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestWhatIsNoDiskIsRefusedAndNamed(t *testing.T) {
	pad := func(s string) string { return s + strings.Repeat("\x00", 1024-len(s)) }
	for _, c := range []struct{ name, content, want string }{
		{"a Debian package", pad("!<arch>\ndebian-binary"), "is not a disk but a package"},
		{"a compressed disk", pad("\x28\xb5\x2f\xfd"), "compressed (zstd): unpack it"},
		{"an archive", pad(strings.Repeat("x", 257) + "ustar"), "an archive (tar)"},
		{"a program", pad("\x7fELF"), "a program"},
		{"a kernel with its boot sector", pad("MZ" + strings.Repeat("\x00", 508) + "\x55\xaa\x00\x00HdrS"), "a kernel"},
		{"a disk of another program", pad("KDMV"), "qemu-img convert"},
		{"an odd number of bytes", "plain text", "10 bytes are no whole number of sectors"},
		{"nothing", "", "it is empty"},
		{"a disk that begins as a program does", pad("{" + strings.Repeat("\x00", 509) + "\x55\xaa"), ""},
		{"a blank disk", pad(""), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			writeFile(t, path, c.content)
			_, err := ParseDisk(path)
			if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, ErrNotADisk) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("ParseDisk() = %v, want %q", err, c.want)
			}
			if d, err := ParseDisk(path + ",format=raw"); err != nil && c.content != "" {
				t.Errorf("ParseDisk() with a format = %v, %v", d, err)
			}
		})
	}
}

func TestShellQuoteSurvivesAShell(t *testing.T) {
	words := []string{"plain", "", "two words", "it's", "$HOME `x` \"y\" \\", "a,b=c", "*?[", "=x", "new\nline", "~", "#c"}
	out, err := exec.Command("sh", "-c", `for w in `+ShellQuote(words)+`; do printf '%s\0' "$w"; done`).Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	if diff := cmp.Diff(words, got); diff != "" {
		t.Errorf("words (-want +got):\n%s", diff)
	}
}

func TestAQcow2IsAMediumAndTellsItsOverlay(t *testing.T) {
	out := t.TempDir()
	disk := filepath.Join(out, "disk.qcow2")
	if said, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", disk, "1M").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, said)
	}
	writeFile(t, filepath.Join(out, "manifest.json"), `{"architecture":"arm64"}`)
	for _, path := range []string{out, disk} {
		m, err := OpenDisk(path, "")
		if err != nil {
			t.Fatal(err)
		}
		if path == out && m.VM.Arch != "arm64" {
			t.Errorf("the architecture is %s, and the output's manifest says arm64", m.VM.Arch)
		}
		release, err := m.Claim(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		said, err := exec.Command("qemu-img", "info", m.State).CombinedOutput()
		release()
		if err != nil || !strings.Contains(string(said), "backing file format: qcow2") {
			t.Errorf("qemu-img info: %v %s", err, said)
		}
		if d := m.Throwaway(); d.Format != "qcow2" {
			t.Errorf("Throwaway() = %+v", d)
		}
	}
}

func TestTheSectorsOfADiskAreThoseOfItsTable(t *testing.T) {
	for want, at := range map[int]int{0: 512, 4096: 4096} {
		path := filepath.Join(t.TempDir(), "disk.img")
		content := make([]byte, 1<<20)
		copy(content[510:], "\x55\xaa")
		copy(content[at:], "EFI PART")
		writeFile(t, path, string(content))
		m, err := OpenMedium(path, "amd64")
		if err != nil || m.VM.Disks[0].Sector != want || m.Throwaway().Sector != want {
			t.Errorf("a table at %d: %+v, %v", at, m.VM.Disks, err)
		}
	}
}
