package vmtests

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"veneer/images"
	"veneer/images/build"
	"veneer/vmtests/qemu"
)

// output is what `veneer build` wrote.
type output struct {
	dir string
	key string // the secret key that it was signed with
}

func (o output) file(name string) string { return filepath.Join(o.dir, name) }

// vm returns a machine that boots the output with the store on disk, which the guest cannot write to. words go to the
// kernel's command line. A failure ends it at once.
func (o output) vm(t *testing.T, disk string, words ...string) qemu.VM {
	t.Helper()
	vm := qemu.VM{Arch: o.manifest(t).Architecture, Kernel: o.file("vmlinuz"), Initrd: o.file("initramfs.cpio.zst"), MemoryMiB: 512}
	if disk != "" {
		vm.Disks = []qemu.Disk{{Path: disk, Bus: qemu.VirtioBlk, ReadOnly: true}}
	}
	tty, err := vm.Console()
	if err != nil {
		t.Fatal(err)
	}
	vm.Append = append([]string{"console=" + tty, "panic=-1"}, words...)
	return vm
}

// disk is the store as the build made it.
func (o output) disk() string { return o.file("store.img") }

func (o output) manifest(t *testing.T) images.Manifest {
	t.Helper()
	m, err := images.ParseManifest(read(t, o.file(images.ManifestName)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// store is a copy of a store's files, for a case to spoil.
type store struct {
	t   *testing.T
	out output
	dir string // what goes to the disk; the store is below it
	at  string // where below it
}

// store returns a store as the build would install it, in the directory at.
func (o output) store(t *testing.T, at string) store {
	t.Helper()
	s := store{t, o, t.TempDir(), at}
	if err := os.CopyFS(s.path("images"), os.DirFS(o.file("images"))); err != nil {
		t.Fatal(err)
	}
	s.install("1")
	s.write("default", []byte("1\n"))
	return s
}

// install copies the build's manifest and its signature to a deployment.
func (s store) install(serial string) {
	s.t.Helper()
	for _, name := range []string{images.ManifestName, images.SignatureName} {
		s.write(filepath.Join("deployments", serial, name), read(s.t, s.out.file(name)))
	}
}

func (s store) path(name string) string { return filepath.Join(s.dir, s.at, name) }

func (s store) write(name string, content []byte) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(s.path(name)), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.path(name), content, 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// flip changes one bit of a file.
func (s store) flip(name string, offset int64) {
	s.t.Helper()
	f, err := os.OpenFile(s.path(name), os.O_RDWR, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, offset); err != nil {
		s.t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, offset); err != nil {
		s.t.Fatal(err)
	}
}

// sign replaces the manifest of deployment 1 by an edited one, signed with a key.
func (s store) sign(key string, edit func(*images.Manifest)) {
	s.t.Helper()
	m := s.out.manifest(s.t)
	edit(&m)
	text := m.Encode()
	s.signText(key, text)
}

// signText replaces the manifest of deployment 1 by any text, signed with a key.
func (s store) signText(key string, text []byte) {
	s.t.Helper()
	signer, err := build.LoadSigner(key, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	sig, err := signer.Sign(text, "a VM test")
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("deployments/1/manifest.json", text)
	s.write("deployments/1/manifest.json.minisig", sig)
}

// base is the image of the base.
func (s store) base() images.Image {
	s.t.Helper()
	for _, img := range s.out.manifest(s.t).Images {
		if img.Role == images.RoleBase {
			return img
		}
	}
	s.t.Fatal("the manifest has no base")
	return images.Image{}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// replaced returns text with one occurrence of old replaced; there must be exactly one.
func replaced(t *testing.T, text []byte, old, by string) []byte {
	t.Helper()
	if n := bytes.Count(text, []byte(old)); n != 1 {
		t.Fatalf("%q occurs %d times, want once", old, n)
	}
	return bytes.Replace(text, []byte(old), []byte(by), 1)
}

// fifo puts a fifo in the place of a file.
func (s store) fifo(name string) {
	s.t.Helper()
	s.remove(name)
	if err := unix.Mkfifo(s.path(name), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s store) remove(name string) {
	s.t.Helper()
	if err := os.RemoveAll(s.path(name)); err != nil {
		s.t.Fatal(err)
	}
}

func (s store) truncate(name string, size int64) {
	s.t.Helper()
	if err := os.Truncate(s.path(name), size); err != nil {
		s.t.Fatal(err)
	}
}
