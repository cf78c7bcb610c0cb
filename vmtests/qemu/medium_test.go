package qemu

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

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
		if err := m.PrepareState(soon(t), fresh); err != nil {
			t.Fatal(err)
		}
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
	writeFile(t, disk, strings.Repeat("\x00", 1<<16))
	m, err := OpenMedium(disk, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	if m.VM.Kernel != "" || m.VM.Arch != "amd64" || len(m.VM.Disks) != 1 {
		t.Errorf("VM = %+v, want an amd64 one with one disk and no kernel", m.VM)
	}
	if err := m.PrepareState(soon(t), false); err != nil {
		t.Fatal(err)
	}
}

func TestOpenMediumRefuses(t *testing.T) {
	incomplete := makeOutput(t, `{"architecture":"amd64"}`)
	if err := os.Remove(filepath.Join(incomplete, storeFile)); err != nil {
		t.Fatal(err)
	}
	qcow2 := filepath.Join(t.TempDir(), "x.qcow2")
	writeFile(t, qcow2, "QFI\xfb")
	cases := []struct{ name, path, want string }{
		{"what is not there", "/nonexistent", "no such file"},
		{"a directory without a manifest", t.TempDir(), "manifest.json: no such file"},
		{"a manifest that is not JSON", makeOutput(t, "{"), "unexpected end of JSON"},
		{"a manifest of endless size", makeOutput(t, strings.Repeat(" ", maxManifest+1)), "larger than"},
		{"an architecture without a machine", makeOutput(t, `{"architecture":"vax"}`), `"vax"`},
		{"an output without a store", incomplete, `name the output "store"`},
		{"a disk that is not raw", qcow2, "--disk"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := OpenMedium(c.path, "amd64"); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("OpenMedium() = %v, want an error with %q", err, c.want)
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
