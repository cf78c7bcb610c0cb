package build

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"veneer/images"
	"veneer/images/verity"
)

// testEntry is an entry of an archive in newc format.
func testEntry(name string, mode uint32, content string) []byte {
	var b bytes.Buffer
	b.WriteString(newcMagic)
	for _, n := range []int{0, int(mode), 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0} {
		fmt.Fprintf(&b, "%08X", n)
	}
	b.WriteString(name + "\x00")
	b.Write(make([]byte, -b.Len()&3))
	b.WriteString(content)
	b.Write(make([]byte, -b.Len()&3))
	return b.Bytes()
}

func testInitramfs(files map[string]string) []byte {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(files)) {
		b.Write(testEntry(name, 0o100644, files[name]))
	}
	b.Write(testEntry(newcTrailer, 0, ""))
	return b.Bytes()
}

func zstdOf(t testing.TB, content []byte) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	return e.EncodeAll(content, nil)
}

// zeroBomb is a few kilobytes that unpack to more zeros than any initramfs holds.
func zeroBomb(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	e, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	if _, err := e.Write(testInitramfs(map[string]string{"a": "b"})); err != nil {
		t.Fatal(err)
	}
	for range maxUnpacked>>20 + 1 {
		if _, err := e.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const testPublicKey = "untrusted comment: minisign public key A9C9DF1FDF45BE7F\nRWR/vkXfH9/JqbDJCJRKNYV+98KV05UhKe6/D4BNFFMMboTtyZ97SfpV\n"

func goodInitramfs() []byte {
	return testInitramfs(map[string]string{
		"init":                        strings.Repeat("i", 3000),
		"etc/veneer/keys/release.pub": testPublicKey,
		"etc/veneer/variant":          "live\n",
		"etc/veneer/cmdline":          "veneer.store=LABEL=VENEER veneer.on-fail=reboot\n",
		"lib/modules/index":           "veneer-modules 1\nrelease 6.1.0-56-cloud-amd64\nbuiltin squashfs\nmodule dm_mod\nmodule dm_verity dm_mod\nalias virtio:d2 virtio_blk\n",
		"lib/modules/dm_mod.ko":       strings.Repeat("m", 5001),
	})
}

func TestInitramfsIsReadWhateverItsCompression(t *testing.T) {
	plain := goodInitramfs()
	key, err := images.ParsePublicKey([]byte(testPublicKey))
	if err != nil {
		t.Fatal(err)
	}
	want := Initramfs{Compression: "none", Unpacked: int64(len(plain)), Entries: 6, Init: 3000, Variant: "live", TPM: "none",
		Defaults: "veneer.store=LABEL=VENEER veneer.on-fail=reboot", Release: "6.1.0-56-cloud-amd64",
		Modules: []string{"dm_mod", "dm_verity"}, Builtin: []string{"squashfs"}, Keys: []Key{{"release.pub", "A9C9DF1FDF45BE7F", key}}}
	microcode := append(testInitramfs(map[string]string{"kernel/x86/microcode": "code"}), make([]byte, 512)...)
	packed := zstdOf(t, plain)
	for name, c := range map[string]struct {
		file []byte
		bend func(*Initramfs)
	}{
		"none":                  {plain, func(*Initramfs) {}},
		"zstd":                  {packed, func(i *Initramfs) { i.Compression = "zstd" }},
		"zeros behind":          {append(bytes.Clone(plain), make([]byte, 300)...), func(i *Initramfs) { i.Unpacked += 300 }},
		"two archives in a row": {append(bytes.Clone(microcode), packed...), func(i *Initramfs) { i.Compression = "zstd"; i.Entries++; i.Unpacked += int64(len(microcode)) }},
	} {
		t.Run(name, func(t *testing.T) {
			want := want
			want.Size = int64(len(c.file))
			c.bend(&want)
			got, err := ReadInitramfs(bytes.NewReader(c.file), want.Size)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("ReadInitramfs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLaterEntryOfAnInitramfsWins(t *testing.T) {
	file := append(testEntry("etc/veneer/cmdline", 0o100644, "first"), testEntry("/etc/veneer/./cmdline", 0o100644, "second")...)
	got, err := ReadInitramfs(bytes.NewReader(file), int64(len(file)))
	if err != nil || got.Defaults != "second" {
		t.Errorf("ReadInitramfs = %q, %v; want second", got.Defaults, err)
	}
}

func TestBadInitramfsIsRefusedWithItsPlace(t *testing.T) {
	good := goodInitramfs()
	header := func(field int, value string) []byte {
		b := bytes.Clone(good)
		copy(b[6+8*field:], value)
		return b
	}
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"nothing":                {nil, "no entries"},
		"noise":                  {bytes.Repeat([]byte("noise"), 100), "no cpio header at byte 0"},
		"a cut header":           {good[:50], "header at byte 0 is cut"},
		"a cut name":             {good[:115], "is cut"},
		"a cut content":          {good[:len(good)-2000], "unexpected EOF"},
		"a cut frame":            {zstdOf(t, good)[:100], "unexpected EOF"},
		"a field that is no hex": {header(6, "zzzzzzzz"), "header at byte 0"},
		"a name without end":     {header(11, "FFFFFFFF"), "name of 4294967295 bytes"},
		"no name":                {header(11, "00000000"), "name of 0 bytes"},
		"a file without end":     {header(6, "FFFFFFFF"), "more than 536870912 bytes"},
		"a bomb of zeros":        {zeroBomb(t), "more than 536870912 bytes"},
		"a key that is none":     {testInitramfs(map[string]string{"etc/veneer/keys/x.pub": "x"}), "etc/veneer/keys/x.pub: minisign public key"},
		"a key without end":      {testInitramfs(map[string]string{"etc/veneer/keys/x.pub": strings.Repeat("x", 5000)}), "5000 bytes"},
		"defaults without end":   {testInitramfs(map[string]string{"etc/veneer/cmdline": strings.Repeat("x", 5000)}), "5000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadInitramfs(bytes.NewReader(c.file), int64(len(c.file)))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("ReadInitramfs = %v, want %q", err, c.want)
			}
		})
	}
}

// testSquashfs is the superblock of a squashfs of one block, with the hash tree of that block behind it.
func testSquashfs() []byte {
	le := binary.LittleEndian
	b := make([]byte, 8192)
	copy(b, "hsqs")
	le.PutUint32(b[4:], 12)         // inodes
	le.PutUint32(b[8:], 1700000000) // made
	le.PutUint32(b[12:], 131072)    // block size
	le.PutUint16(b[20:], 6)         // zstd
	le.PutUint16(b[22:], 17)        // block log
	le.PutUint16(b[28:], 4)         // major
	le.PutUint64(b[40:], 4000)      // used
	copy(b[4096:], "verity\x00\x00")
	le.PutUint32(b[4104:], 1)
	le.PutUint32(b[4108:], 1)
	copy(b[4128:], "sha256")
	le.PutUint32(b[4160:], 4096)
	le.PutUint32(b[4164:], 4096)
	le.PutUint64(b[4168:], 1)
	return b
}

func TestBadImageIsRefusedWithTheReason(t *testing.T) {
	le := binary.LittleEndian
	if _, err := ReadImage(bytes.NewReader(testSquashfs()), 8192); err != nil {
		t.Fatalf("ReadImage of a good image = %v", err)
	}
	for name, c := range map[string]struct {
		bend func(b []byte) []byte
		want string
	}{
		"no file system":        {func(b []byte) []byte { b[0] = 'x'; return b }, "neither squashfs nor EROFS"},
		"a cut superblock":      {func(b []byte) []byte { return b[:60] }, "superblock is cut"},
		"squashfs 3":            {func(b []byte) []byte { b[28] = 3; return b }, "version 3.0"},
		"odd blocks":            {func(b []byte) []byte { le.PutUint32(b[12:], 5000); return b }, "blocks of 5000"},
		"unknown compression":   {func(b []byte) []byte { b[20] = 99; return b }, "compression 99"},
		"use beyond the file":   {func(b []byte) []byte { le.PutUint64(b[40:], 9000); return b }, "cut short"},
		"use without end":       {func(b []byte) []byte { le.PutUint64(b[40:], 1<<63); return b }, "squashfs of"},
		"no use":                {func(b []byte) []byte { le.PutUint64(b[40:], 0); return b }, "damaged"},
		"no hash tree":          {func(b []byte) []byte { return b[:4096] }, "no hash tree behind"},
		"no hash superblock":    {func(b []byte) []byte { b[4096] = 0; return b }, "no dm-verity superblock"},
		"a tree of other data":  {func(b []byte) []byte { le.PutUint64(b[4168:], 2); return b }, "it covers 8192 bytes"},
		"a tree that is cut":    {func(b []byte) []byte { return b[:4096+600] }, "are missing"},
		"an EROFS of odd block": {func(b []byte) []byte { b[0] = 0; copy(b[1024:], "\xe2\xe1\xf5\xe0"); b[1036] = 30; return b }, "blocks of 2^30"},
	} {
		t.Run(name, func(t *testing.T) {
			b := c.bend(testSquashfs())
			if _, err := ReadImage(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("ReadImage = %v, want %q", err, c.want)
			}
		})
	}
}

func TestImagesOfTheRealToolsAreRead(t *testing.T) {
	tree := t.TempDir()
	for i := range 20 {
		write(t, filepath.Join(tree, fmt.Sprint("file", i)), strings.Repeat("content ", 10_000))
	}
	for _, c := range []struct {
		pkg  string
		argv []string
		want Superblock
	}{
		{"squashfs-tools", []string{"mksquashfs", tree, "IMG", "-quiet", "-no-progress", "-comp", "zstd", "-mkfs-time", "1700000000"},
			Superblock{Type: "squashfs", BlockSize: 131072, Compression: "zstd", Inodes: 21}},
		{"squashfs-tools", []string{"mksquashfs", tree, "IMG", "-quiet", "-no-progress", "-comp", "xz", "-b", "1M", "-nopad", "-mkfs-time", "1700000000"},
			Superblock{Type: "squashfs", BlockSize: 1 << 20, Compression: "xz", Inodes: 21}},
		{"erofs-utils", []string{"mkfs.erofs", "-T1700000000", "--quiet", "IMG", tree},
			Superblock{Type: "erofs", BlockSize: 4096, Compression: "none", Inodes: 21}},
		{"erofs-utils", []string{"mkfs.erofs", "-T1700000000", "--quiet", "-zlz4hc", "IMG", tree},
			Superblock{Type: "erofs", BlockSize: 4096, Compression: "lz4", Inodes: 21}},
	} {
		t.Run(strings.Join(c.argv[:1], " ")+" "+c.want.Compression, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "img")
			argv := slices.Clone(c.argv)
			argv[slices.Index(argv, "IMG")] = path
			run(t, c.pkg, argv...)
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			r, err := verity.Append(t.Context(), f, verity.Options{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := ReadImage(f, r.Size)
			if err != nil {
				t.Fatal(err)
			}
			if got.FileSystem.Made.Unix() != 1700000000 || got.Verity.ID != fmt.Sprintf("%x", r.Root) || got.Verity.Behind != 0 {
				t.Errorf("ReadImage = made %v, ID %s, %d behind", got.FileSystem.Made, got.Verity.ID, got.Verity.Behind)
			}
			c.want.Used, c.want.Made = got.FileSystem.Used, got.FileSystem.Made
			if diff := cmp.Diff(c.want, got.FileSystem); diff != "" {
				t.Errorf("ReadImage (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNothingInAFilePlaysWithTheTerminal(t *testing.T) {
	file := testInitramfs(map[string]string{"etc/veneer/cmdline": "quiet\x1b[2J\x07", "lib/modules/index": "release \x1b]0;x\x07\nmodule \x1bc\n"})
	found, err := ReadInitramfs(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := (Inspection{Initramfs: &found}).WriteText(&b); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\x07") {
		t.Errorf("control characters came through: %q", b.String())
	}
}

func FuzzReadImage(f *testing.F) {
	f.Add(testSquashfs())
	f.Fuzz(func(t *testing.T, b []byte) {
		img, err := ReadImage(bytes.NewReader(b), int64(len(b)))
		if err == nil && (img.FileSystem.Used > int64(len(b)) || img.Verity.HashOffset >= int64(len(b)) || img.Verity.Behind < 0) {
			t.Errorf("accepted %+v in %d bytes", img, len(b))
		}
		if err == nil {
			if err := (Inspection{Image: &img}).WriteText(io.Discard); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzReadInitramfs(f *testing.F) {
	f.Add(goodInitramfs())
	f.Add(zstdOf(f, goodInitramfs()))
	f.Fuzz(func(t *testing.T, b []byte) {
		found, err := ReadInitramfs(bytes.NewReader(b), int64(len(b)))
		if found.Unpacked > maxUnpacked+1<<20 || len(found.Keys) > maxKeys || errors.Is(err, io.EOF) {
			t.Errorf("accepted %+v, %v", found, err)
		}
	})
}
