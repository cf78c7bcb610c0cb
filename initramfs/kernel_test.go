package initramfs

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bzImage makes the beginning of an x86 kernel image.
func bzImage(release string, flags uint16) []byte {
	image := make([]byte, 0x400)
	copy(image[x86Magic:], "HdrS")
	binary.LittleEndian.PutUint16(image[x86LoadFlags:], flags)
	if release != "" {
		binary.LittleEndian.PutUint16(image[x86Version:], 0x80)
		copy(image[0x280:], release+" (builder@host) #1 SMP")
	}
	return image
}

// armImage makes the beginning of an arm64 kernel image, and its banner far behind.
func armImage(release string) []byte {
	image := make([]byte, 600<<10)
	copy(image[armMagic:], "ARM\x64")
	copy(image[1000:], "Linux version %s (%s)\x00")
	copy(image[256<<10-5:], "Linux version "+release+" (builder@host)\n")
	return image
}

func gzipped(t testing.TB, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zboot(t testing.TB, image []byte) []byte {
	t.Helper()
	packed := gzipped(t, image)
	head := make([]byte, 64)
	copy(head, "MZ\x00\x00zimg")
	binary.LittleEndian.PutUint32(head[zbootPayload:], 64)
	binary.LittleEndian.PutUint32(head[zbootSize:], uint32(len(packed)))
	return append(head, packed...)
}

func TestAKernelImageTellsItsArchitectureAndRelease(t *testing.T) {
	for name, tt := range map[string]struct {
		image []byte
		want  Header
	}{
		"x86 bzImage":              {bzImage(testRelease, 1), Header{"amd64", testRelease}},
		"x86 without a version":    {bzImage("", 1), Header{"amd64", ""}},
		"arm64 Image":              {armImage(testRelease), Header{"arm64", testRelease}},
		"arm64 Image in gzip":      {gzipped(t, armImage(testRelease)), Header{"arm64", testRelease}},
		"arm64 Image in EFI zboot": {zboot(t, armImage(testRelease)), Header{"arm64", testRelease}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ReadHeader(bytes.NewReader(tt.image))
			if err != nil || got != tt.want {
				t.Errorf("ReadHeader() = %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func TestAFileThatIsNoKernelIsRefused(t *testing.T) {
	for name, image := range map[string][]byte{
		"nothing":         nil,
		"an ELF file":     []byte("\x7fELF and so on"),
		"32-bit x86":      bzImage(testRelease, 0),
		"gzip in gzip":    gzipped(t, gzipped(t, armImage(testRelease))),
		"a cut gzip":      gzipped(t, armImage(testRelease))[:40],
		"zboot of itself": zboot(t, zboot(t, armImage(testRelease))),
	} {
		t.Run(name, func(t *testing.T) {
			if h, err := ReadHeader(bytes.NewReader(image)); err == nil {
				t.Errorf("ReadHeader() = %+v, want an error", h)
			}
		})
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(bzImage(testRelease, 1))
	f.Add(armImage(testRelease)[:2048])
	f.Add(zboot(f, armImage(testRelease)[:2048]))
	f.Fuzz(func(t *testing.T, image []byte) {
		h, err := ReadHeader(bytes.NewReader(image))
		if err == nil && (h.Arch == "" || len(h.Release) > maxRelease || strings.ContainsAny(h.Release, " /\n\x00")) {
			t.Errorf("ReadHeader() = %+v", h)
		}
	})
}

// tarOf makes an archive of the files, whose names are followed by what is in them.
func tarOf(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1])), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// debOf makes a package around data.tar.
func debOf(members ...string) []byte {
	b := bytes.NewBufferString("!<arch>\n")
	for i := 0; i < len(members); i += 2 {
		fmt.Fprintf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n%s", members[i], 0, 0, 0, "100644", len(members[i+1]), members[i+1])
		if len(members[i+1])%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

func kernelFiles(t testing.TB) []string {
	t.Helper()
	dir := "./lib/modules/" + testRelease
	return []string{"./boot/vmlinuz-" + testRelease, string(bzImage(testRelease, 1)), dir + "/modules.builtin", "kernel/fs/ext4/ext4.ko\n",
		dir + "/kernel/loop.ko", string(elfModule(t, "name=loop", "vermagic="+testRelease+" SMP")), "./usr/share/doc/x", "not for us"}
}

func TestAKernelComesFromATreeAnArchiveOrAPackage(t *testing.T) {
	archive := tarOf(t, kernelFiles(t)...)
	tree, deb := t.TempDir(), filepath.Join(t.TempDir(), "linux.deb")
	if err := unpackKernel(t.Context(), bytes.NewReader(archive), tree); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(deb, debOf("debian-binary", "2.0\n", "control.tar.gz", "odd", "data.tar.gz/", string(gzipped(t, archive))), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func() (*Kernel, error){
		"tree":    func() (*Kernel, error) { return OpenKernel(t.Context(), tree, "") },
		"package": func() (*Kernel, error) { return OpenKernel(t.Context(), deb, "") },
		"archive": func() (*Kernel, error) { return OpenKernelTar(t.Context(), bytes.NewReader(archive)) },
		"image": func() (*Kernel, error) {
			return OpenKernel(t.Context(), filepath.Join(tree, "boot/vmlinuz-"+testRelease), filepath.Join(tree, "lib/modules", testRelease))
		},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := open()
			if err != nil {
				t.Fatal(err)
			}
			if k.Release != testRelease || k.Arch != "amd64" || !k.modules.builtin["ext4"] || k.modules.files["loop"] == "" {
				t.Errorf("kernel %s for %s with %v, want %s for amd64 with loop", k.Release, k.Arch, k.modules.files, testRelease)
			}
			r, size, err := k.Image()
			if err != nil {
				t.Fatal(err)
			}
			image, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); err != nil || int64(len(image)) != size || !bytes.Equal(image, bzImage(testRelease, 1)) {
				t.Errorf("Image() gave %d bytes of %d, %v", len(image), size, err)
			}
			if err := k.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestClosingAKernelRemovesWhatWasUnpacked(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	k, err := OpenKernelTar(t.Context(), bytes.NewReader(tarOf(t, kernelFiles(t)...)))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestATreeWithoutOneKernelIsRefused(t *testing.T) {
	module := string(elfModule(t, "name=loop"))
	image := string(bzImage(testRelease, 1))
	for name, tt := range map[string]struct {
		files []string
		want  string
	}{
		"none":               {[]string{"lib/modules/6.1/kernel/loop.ko", module}, ErrNoKernel.Error()},
		"two":                {[]string{"boot/vmlinuz-1", image, "boot/vmlinuz-2", image}, "boot/vmlinuz-1, boot/vmlinuz-2"},
		"no modules for it":  {[]string{"boot/vmlinuz-1", image, "lib/modules/6.2/kernel/loop.ko", module}, "lib/modules/" + testRelease},
		"not a kernel image": {[]string{"boot/vmlinuz-1", "text"}, "boot/vmlinuz-1"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := OpenKernelTar(t.Context(), bytes.NewReader(tarOf(t, tt.files...))); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("OpenKernelTar() = %v, want it to name %q", err, tt.want)
			}
		})
	}
}

func TestAnArchiveWritesNothingOutsideOfItsDirectory(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "in")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	archive := tarOf(t, "lib/modules/../../../evil.ko", "x", "../lib/modules/6.1/evil.ko", "x", "/lib/modules/6.1/good.ko", "x")
	if err := unpackKernel(t.Context(), bytes.NewReader(archive), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "lib/modules/6.1/good.ko")); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(parent); err != nil || len(entries) != 1 {
		t.Errorf("beside the directory: %v, %v", entries, err)
	}
}

func TestABrokenPackageIsRefused(t *testing.T) {
	good := debOf("debian-binary", "2.0\n", "data.tar.gz", string(gzipped(t, tarOf(t, kernelFiles(t)...))))
	for name, deb := range map[string][]byte{
		"nothing":     nil,
		"no ar":       []byte("hello, world"),
		"no data.tar": debOf("debian-binary", "2.0\n"),
		"cut":         good[:len(good)/2],
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "x.deb")
			if err := os.WriteFile(file, deb, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := OpenKernelDeb(t.Context(), file); err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("OpenKernelDeb() = %v, want an error that names the file", err)
			}
		})
	}
}

func FuzzPackage(f *testing.F) {
	f.Add(debOf("debian-binary", "2.0\n", "data.tar", string(tarOf(f, kernelFiles(f)...))))
	f.Add(debOf("x", "", "data.tar.gz", ""))
	f.Add([]byte("!<arch>\n"))
	f.Fuzz(func(t *testing.T, deb []byte) {
		data, err := debData(bytes.NewReader(deb))
		if err != nil {
			return
		}
		plain, err := decompress(data)
		if err != nil {
			return
		}
		defer plain.Close()
		_ = unpackKernel(context.Background(), io.LimitReader(plain, 1<<20), t.TempDir())
	})
}
