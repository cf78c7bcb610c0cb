package build

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"veneer/images"
)

// ext4Image makes an image of a kind of file system with files in it, as mke2fs and debugfs make them.
func ext4Image(t *testing.T, kind string, files map[string]string, more ...string) string {
	t.Helper()
	dir := t.TempDir()
	image := filepath.Join(dir, "store.img")
	run(t, "e2fsprogs", "mke2fs", "-q", "-F", "-t", kind, "-b", "1024", image, "32M")
	script := "mkdir /veneer\nmkdir /veneer/deployments\nmkdir /veneer/images\n"
	for name, content := range files {
		source := filepath.Join(dir, filepath.Base(name))
		write(t, source, content)
		script += "cd /" + filepath.Dir(name) + "\nwrite " + source + " " + filepath.Base(name) + "\n"
	}
	cmd := exec.Command("debugfs", "-w", "-f", "-", image)
	cmd.Stdin = strings.NewReader(script + strings.Join(more, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("debugfs: %v: %s", err, out)
	}
	return image
}

func TestAStoreImageAloneIsVerified(t *testing.T) {
	p := newProject(t, "")
	out := p.build(t, nil)
	key, err := ReadPublicKey(filepath.Join(p.dir, "test.pub"))
	if err != nil {
		t.Fatal(err)
	}
	good := read(t, filepath.Join(out, outStore))
	manifest := read(t, filepath.Join(out, images.ManifestName))
	m, err := images.ParseManifest(manifest)
	if err != nil {
		t.Fatal(err)
	}
	base := "/veneer/images/" + m.Images[0].ID + ".img"
	// flip changes a bit of the image where it holds content, and the first of it only.
	flip := func(content []byte, at int) func([]byte) []byte {
		return func(b []byte) []byte { b[bytes.Index(b, content)+at] ^= 1; return b }
	}
	image := read(t, filepath.Join(out, images.ImagePath(m.Images[0].ID)))
	keys := []Key{key}
	for _, c := range []struct {
		name string
		keys []Key
		bend func([]byte) []byte
		want []string // in what is wrong; nothing for a good one
		err  string
	}{
		{name: "a good one", keys: keys},
		{name: "without a key", err: "store.img: a store holds no keys: name the public keys to trust with --key"},
		{name: "of somebody else", keys: []Key{newOutput(t).key}, want: []string{"deployment 1: signature: "}},
		{name: "with a bit of the manifest changed", keys: keys, bend: flip(manifest, 20),
			want: []string{"deployment 1: signature: ", "store.img: /veneer/deployments/1/manifest.json: manifest: line "}},
		{name: "with a bit of an image changed", keys: keys, bend: flip(image[:4096], 3000), want: []string{"deployment 1: base: ", "store.img: " + base + ": data block 0"}},
		{name: "with a bit of the journal changed", keys: keys, bend: flip([]byte{0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 4}, 12), want: []string{"store.img as ext4: ", "e2fsck -fn"}},
		{name: "with a bit of a group descriptor changed", keys: keys, bend: func(b []byte) []byte { b[storeBlock+12] ^= 1; return b }, want: []string{"store.img as ext4: "}},
		{name: "that is cut", keys: keys, bend: func(b []byte) []byte { return b[:1<<20] }, err: "store.img: /veneer/deployments"},
		{name: "of which only the superblock is left", keys: keys, bend: func(b []byte) []byte { clear(b[4096:]); return b }, err: "store.img: /veneer/deployments"},
		{name: "with blocks of no size", keys: keys, bend: func(b []byte) []byte { b[1024+24] = 99; return b }, err: "ext4 superblock: blocks of 2^109 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			content := bytes.Clone(good)
			if c.bend != nil {
				content = c.bend(content)
			}
			path := filepath.Join(t.TempDir(), "store.img")
			write(t, path, string(content))
			v, err := Verify(context.Background(), VerifySpec{Path: path, Keys: c.keys})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("Verify() = %v, want %q", err, c.err)
				}
				return
			}
			if err != nil || v.Kind != KindFileSystem || v.OK() != (c.want == nil) || len(v.Checks) != 6 && c.bend == nil {
				t.Errorf("Verify() = %v, %+v, want a good one: %v", err, v, c.want == nil)
			}
			for _, want := range c.want {
				if v.OK() || !strings.Contains(v.Err().Error(), want) {
					t.Errorf("Verify() found %v, want %q", v.Err(), want)
				}
			}
		})
	}
	v, err := Verify(context.Background(), VerifySpec{Path: filepath.Join(out, outStore)})
	if err != nil || !v.OK() || !strings.Contains(v.KeysFrom, outInitramfs) {
		t.Errorf("Verify() in its output = %v, %v with keys from %q; want those of the initramfs there", err, v.Err(), v.KeysFrom)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Verify(ctx, VerifySpec{Path: filepath.Join(out, outStore)}); err == nil {
		t.Error("Verify() went on after it was told to stop")
	}
}

func TestAnExt4ImageWithoutAStoreIsRefused(t *testing.T) {
	o := newOutput(t)
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.img")
	run(t, "e2fsprogs", "mke2fs", "-q", "-F", "-t", "ext4", empty, "4M")
	if _, err := Verify(context.Background(), VerifySpec{Path: empty, Keys: []Key{o.key}}); err == nil || !strings.Contains(err.Error(), "an ext4 file system without a store") {
		t.Errorf("Verify() = %v", err)
	}
	link := ext4Image(t, "ext4", map[string]string{"veneer/default": "1\n"}, "mkdir /veneer/deployments/1", "symlink /veneer/deployments/1/manifest.json /veneer/default")
	v, err := Verify(context.Background(), VerifySpec{Path: link, Keys: []Key{o.key}})
	if err != nil || v.OK() || !strings.Contains(v.Err().Error(), "deployment 1: manifest: "+link+": /veneer/deployments/1/manifest.json: not a regular file") {
		t.Errorf("Verify() of a link for a manifest = %v, %v", err, v.Err())
	}
}

// The files of each kind have what makes reading hard: many extents or indirect blocks, holes, an end within a block, nothing.
func TestFilesInImagesAreReadAsTheyAre(t *testing.T) {
	hole := string(noise(3000)) + strings.Repeat("\x00", 300_000) + string(noise(700)) + strings.Repeat("\x00", 10_000)
	want := map[string]string{"veneer/default": "1\n", "veneer/images/large": string(noise(5<<20 + 77)), "veneer/images/hole": hole, "veneer/images/empty": "",
		"veneer/images/block": string(noise(1024))}
	for _, kind := range []string{"ext2", "ext3", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			e, err := openExt4(t.Context(), ext4Image(t, kind, want), 0)
			if err != nil {
				t.Fatal(err)
			}
			defer e.f.Close()
			for name, content := range want {
				info, err := fs.Stat(e, name)
				if err != nil || info.Size() != int64(len(content)) || !info.Mode().IsRegular() {
					t.Errorf("Stat(%s) = %v, %v", name, info, err)
				}
				got, err := fs.ReadFile(e, name)
				if err != nil || string(got) != content {
					t.Errorf("ReadFile(%s) = %d bytes, %v; want the %d that were written", name, len(got), err, len(content))
				}
				f, err := e.Open(name)
				if err != nil {
					t.Fatal(err)
				}
				for _, at := range []int64{0, 1, 1023, 2999, 70_000, int64(len(content)) - 1, int64(len(content)), int64(len(content)) + 5} {
					b := make([]byte, 5000)
					n, err := f.(io.ReaderAt).ReadAt(b, max(at, 0))
					part := content[min(max(at, 0), int64(len(content))):]
					part = part[:min(len(part), len(b))]
					if string(b[:n]) != part || (n < len(b)) != errors.Is(err, io.EOF) {
						t.Errorf("ReadAt(%s, %d) = %d, %v; want %d bytes", name, at, n, err, len(part))
					}
				}
			}
			var names []string
			list, err := fs.ReadDir(e, "veneer/images")
			for _, entry := range list {
				names = append(names, entry.Name())
			}
			if diff := cmp.Diff([]string{"block", "empty", "hole", "large"}, sorted(names)); err != nil || diff != "" {
				t.Errorf("ReadDir() = %v (-want +got):\n%s", err, diff)
			}
			for _, name := range []string{"veneer/none", "veneer/none/x"} {
				if _, err := e.Open(name); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "store.img: /"+name) {
					t.Errorf("Open(%s) = %v, want ErrNotExist with the path", name, err)
				}
			}
			if _, err := e.Open("veneer/a b"); err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a name that debugfs would split was asked for: %v", err)
			}
		})
	}
}

func TestADirectoryIsAPlace(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "content")
	if err := fstest.TestFS(directory(dir), "file"); err != nil {
		t.Error(err)
	}
	if _, err := readIn(directory(dir), "file", 6); err == nil || !strings.Contains(err.Error(), dir+"/file: larger than 6 bytes") {
		t.Errorf("readIn() = %v", err)
	}
	if _, err := readIn(directory(dir), ".", 6); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("readIn() of a directory = %v", err)
	}
	if _, err := readIn(directory(dir), "none", 6); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), dir+"/none") {
		t.Errorf("readIn() of nothing = %v", err)
	}
}

func TestExtentsAreReadFromWhatDebugfsSays(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []ext4Extent
		err  string
	}{
		"extents":                  {"x\nEXTENTS:\n(ETB0):33, (0-511):34-545, (600):700, (601-602[u]):800-801\n", []ext4Extent{{0, 511, 34}, {600, 600, 700}}, ""},
		"indirect blocks":          {"x\nBLOCKS:\n(0-11):691-702, (IND):703, (12-267):704-959, (DIND):960\nTOTAL: 271\n", []ext4Extent{{0, 11, 691}, {12, 267, 704}}, ""},
		"nothing":                  {"x\nEXTENTS:\n\n", nil, ""},
		"a list before the list":   {"x\nEXTENTS:\n(0):1\n\nEXTENTS:\n(0):2\n", []ext4Extent{{0, 0, 2}}, ""},
		"no list":                  {"Size of inline data: 60\n", nil, "does not say where it lies"},
		"an end before its start":  {"x\nEXTENTS:\n(9-1):5\n", nil, `lies at "(9-1):5"`},
		"a number without end":     {"x\nEXTENTS:\n(0):99999999999999999999\n", nil, "lies at"},
		"a block outside the file": {"x\nEXTENTS:\n(0):999999999999999999\n", nil, "lies at"},
		"a block twice":            {"x\nEXTENTS:\n(0-5):1-6, (5):9\n", nil, "says twice where block 5 lies"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseExtents(c.text)
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(ext4Extent{})); diff != "" || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("parseExtents() = %v, want %q (-want +got):\n%s", err, c.err, diff)
			}
		})
	}
}
