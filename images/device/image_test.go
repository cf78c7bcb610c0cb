package device

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"veneer/images"
)

func TestAFileIsWrittenWithoutADevice(t *testing.T) {
	img := image(t, 10*mib)
	opened, err := Open(img)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	to := filepath.Join(t.TempDir(), "file")
	if err := Write(t.Context(), Spec{Image: opened, Target: Target{Path: to, File: true}}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, to), read(t, img)) {
		t.Error("the file is not the image")
	}
	// One that was there before is nobody's to remove.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	again, err := Open(img)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := Write(ctx, Spec{Image: again, Target: Target{Path: to, File: true}}); !errors.Is(err, ErrIncomplete) {
		t.Errorf("Write() over a file = %v, want that it is incomplete", err)
	}
	if _, err := os.Stat(to); err != nil {
		t.Error(err)
	}
}

func TestAnImageThatIsCutOffOrBentIsRefused(t *testing.T) {
	whole := read(t, image(t, 10*mib))
	iso := make([]byte, 64<<10)
	copy(iso[32768:], "\x01CD001")
	iso[32768+80], iso[32768+129] = 32, 8 // 32 blocks of 2048 bytes
	bent := func(at int) []byte { b := bytes.Clone(whole); b[at] ^= 1; return b }
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"a whole disk":                       {whole, ""},
		"a whole ISO":                        {iso, ""},
		"a whole disk, packed":               {z.EncodeAll(whole, nil), ""},
		"a disk without its last sector":     {whole[:len(whole)-512], "it is a part of an image"},
		"half a disk":                        {whole[:len(whole)/2], "it is a part of an image"},
		"half a disk, packed":                {z.EncodeAll(whole[:len(whole)/2], nil), "it is a part of an image"},
		"half an ISO":                        {iso[:48<<10], "it is a part of an image"},
		"a table with a bit turned":          {bent(512 + 40), "checksum"},
		"a table with a size that cannot be": {bent(512 + 15), "cannot have"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "image")
			if err := os.WriteFile(path, c.content, 0o644); err != nil {
				t.Fatal(err)
			}
			i, err := Open(path)
			if err == nil {
				i.Close()
			}
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open() = %v, want %q", err, c.want)
			}
		})
	}
}

func TestAnImageIsNotWrittenOverItself(t *testing.T) {
	img := image(t, 10*mib)
	before := read(t, img)
	dir := t.TempDir()
	soft, hard := filepath.Join(dir, "soft"), filepath.Join(filepath.Dir(img), "hard")
	if err := errors.Join(os.Symlink(img, soft), os.Link(img, hard)); err != nil {
		t.Fatal(err)
	}
	refused := func(name string, s Spec, want string) {
		t.Helper()
		if err := Write(t.Context(), s); err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, ErrIncomplete) {
			t.Errorf("%s: Write() = %v, want %q", name, err, want)
		}
		if !bytes.Equal(read(t, img), before) {
			t.Fatalf("%s: the image was written to", name)
		}
	}
	opened, err := Open(img)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	for _, path := range []string{img, soft, hard} {
		refused(path, Spec{Image: opened, Target: Target{Path: path, File: true}}, "is the image itself")
		refused(path+" with a state", Spec{Image: opened, Target: Target{Path: path, File: true}, KeepState: true}, "is the image itself")
	}
	on := func(path string) string {
		t.Helper()
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		d, err := images.AttachWritable(f, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		return d.Path
	}
	if os.Getuid() != 0 {
		t.Skip("loop devices take root: sudo go test")
	}
	dev := on(hard)
	refused("a loop device", spec(t, img, dev), "goes into the image itself")
	refused("a loop device on a loop device", spec(t, img, on(dev)), "goes into the image itself")
	// The kernel knows the file by its number when the name that it was attached by is gone.
	if err := os.Remove(hard); err != nil {
		t.Fatal(err)
	}
	refused("a loop device by a name that is gone", spec(t, img, dev), "goes into the image itself")
}

func TestAnImageThatTurnsOutToBeBehindTheDeviceIsPutBack(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("loop devices take root: sudo go test")
	}
	dir := t.TempDir()
	run(t, "mount", "-t", "tmpfs", "tmpfs", dir)
	t.Cleanup(func() { run(t, "umount", dir) })
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dev := loop(t, filepath.Join(dir, "upper"), 10*mib) // on upper/device
	run(t, "cp", image(t, 10*mib), filepath.Join(dir, "upper/device"))
	run(t, "mount", "-t", "overlay", "-o", "lowerdir="+dir+"/lower,upperdir="+dir+"/upper,workdir="+dir+"/work", "overlay", dir+"/merged")
	t.Cleanup(func() { run(t, "umount", dir+"/merged") })
	img := filepath.Join(dir, "merged/device")
	before := read(t, img)
	err := Write(t.Context(), spec(t, img, dev))
	if err == nil || errors.Is(err, ErrIncomplete) || !errors.Is(err, errItself) {
		t.Errorf("Write() = %v, want %v", err, errItself)
	}
	if !bytes.Equal(read(t, img), before) {
		t.Error("the image is not what it was")
	}
}

func TestWhatIsNoDiskIsNamedWithItsRemedy(t *testing.T) {
	for content, want := range map[string]string{"QFI\xfb" + strings.Repeat("x", 508): "qemu-img convert", "\x28\xb5\x2f\xfd" + strings.Repeat("x", 508): "zstd", "x": "no whole number of sectors", "": "no whole number"} {
		path := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%q) = %v, want %q", content[:min(4, len(content))], err, want)
		}
	}
}

func TestACompressedImageIsWrittenAsWhatItHolds(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 256<<10) // 4 MiB
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	whole := z.EncodeAll(content, nil)
	dir := t.TempDir()
	put := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	image, err := Open(put("disk.img.zst", whole))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	to := filepath.Join(dir, "written")
	if err := Write(t.Context(), Spec{Image: image, Target: Target{Path: to, File: true}}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, to); !bytes.Equal(got, content) || image.Size() != int64(len(content)) {
		t.Errorf("%d bytes were written, of %d", len(got), len(content))
	}
	// One that was cut off, or bent, is noticed: at its beginning when it is opened, else while it is written.
	for name, spoilt := range map[string][]byte{"cut off": whole[:len(whole)-3], "bent": append(bytes.Clone(whole[:len(whole)-20]), make([]byte, 20)...)} {
		image, err := Open(put(name, spoilt))
		if err == nil {
			err = Write(t.Context(), Spec{Image: image, Target: Target{Path: filepath.Join(dir, "of "+name), File: true}})
			image.Close()
			if _, serr := os.Stat(filepath.Join(dir, "of "+name)); !errors.Is(serr, os.ErrNotExist) || errors.Is(err, ErrIncomplete) {
				t.Errorf("%s: a part of it is left: %v; %v", name, serr, err)
			}
		}
		if err == nil || !strings.Contains(err.Error(), "copy it again") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
