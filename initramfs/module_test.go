package initramfs

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

const testRelease = "6.1.0-1-test"

// elfModule makes the smallest ELF file that says these things of itself.
func elfModule(t testing.TB, fields ...string) []byte {
	t.Helper()
	modinfo := []byte(strings.Join(fields, "\x00") + "\x00")
	names := []byte("\x00.modinfo\x00.shstrtab\x00")
	const header, section = 64, 64
	text := header + 3*section
	h := elf.Header64{Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Shoff: header, Ehsize: header,
		Shentsize: section, Shnum: 3, Shstrndx: 2}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	var b bytes.Buffer
	for _, part := range []any{h, elf.Section64{},
		elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: uint64(text), Size: uint64(len(modinfo))},
		elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(text + len(modinfo)), Size: uint64(len(names))},
		modinfo, names} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// moduleTree makes a lib/modules/RELEASE of modules, each described by the fields of its .modinfo. What is built in is given as
// "FILE ALIAS ...".
func moduleTree(t testing.TB, builtin []string, modules map[string][]string) *tree {
	t.Helper()
	var files, modinfo bytes.Buffer
	for _, b := range builtin {
		words := strings.Fields(b)
		fmt.Fprintln(&files, words[0])
		for _, alias := range words[1:] {
			fmt.Fprintf(&modinfo, "%s.alias=%s\x00", strings.TrimSuffix(path.Base(words[0]), ".ko"), alias)
		}
	}
	fsys := fstest.MapFS{"modules.builtin": {Data: files.Bytes()}, "modules.builtin.modinfo": {Data: modinfo.Bytes()}}
	for file, fields := range modules {
		fields = append([]string{"vermagic=" + testRelease + " SMP mod_unload"}, fields...)
		fsys[file] = &fstest.MapFile{Data: elfModule(t, fields...)}
	}
	tree, err := openTree(fsys, testRelease)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestAModuleTellsWhatItNeeds(t *testing.T) {
	got, err := ReadModinfo(bytes.NewReader(elfModule(t, "license=GPL", "alias=virtio:d00000002v*", "alias=a b", "depends=dm-mod,reed_solomon",
		"softdep=pre: crypto-crc32c sha256 post: later", "softdep=pre: xxhash64", "name=dm-verity", "vermagic=6.1.0-1-test SMP", "junk")))
	if err != nil {
		t.Fatal(err)
	}
	want := Modinfo{Name: "dm_verity", Release: testRelease, Depends: []string{"dm_mod", "reed_solomon"},
		Before: []string{"crypto-crc32c", "sha256", "xxhash64"}, Aliases: []string{"virtio:d00000002v*"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ReadModinfo() (-want +got):\n%s", diff)
	}
}

func TestAFileThatIsNoModuleIsRefused(t *testing.T) {
	good := elfModule(t, "name=x")
	huge := bytes.Clone(good)
	binary.LittleEndian.PutUint64(huge[64+64+32:], maxModinfo+1) // the size of .modinfo
	for name, file := range map[string][]byte{"nothing": nil, "text": []byte("hello"), "cut": good[:100], "a huge section": huge} {
		t.Run(name, func(t *testing.T) {
			if m, err := ReadModinfo(bytes.NewReader(file)); err == nil {
				t.Errorf("ReadModinfo() = %+v, want an error", m)
			}
		})
	}
}

func FuzzModinfo(f *testing.F) {
	f.Add(elfModule(f, "name=x", "depends=a,b", "softdep=pre: c", "alias=pci:v*"))
	f.Add(elfModule(f, "softdep=pre:", "depends=,,", "alias=", "="))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, file []byte) {
		m, err := ReadModinfo(bytes.NewReader(file))
		if err != nil {
			return
		}
		for _, word := range append(m.Depends, m.Aliases...) {
			if !isWord(word) {
				t.Errorf("%q would break a line of the index", word)
			}
		}
	})
}

func TestPackedModulesAreUnpacked(t *testing.T) {
	plain := elfModule(t, "name=x", "vermagic="+testRelease)
	var gz, x, z bytes.Buffer
	g := gzip.NewWriter(&gz)
	xw, err := xz.NewWriter(&x)
	if err != nil {
		t.Fatal(err)
	}
	zw, err := zstd.NewWriter(&z)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []interface {
		Write([]byte) (int, error)
		Close() error
	}{g, xw, zw} {
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for file, data := range map[string][]byte{"x.ko": plain, "x.ko.gz": gz.Bytes(), "x.ko.xz": x.Bytes(), "x.ko.zst": z.Bytes()} {
		t.Run(file, func(t *testing.T) {
			tree, err := openTree(fstest.MapFS{"kernel/" + file: {Data: data}}, testRelease)
			if err != nil {
				t.Fatal(err)
			}
			m, err := tree.read("x")
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(m.data, plain) {
				t.Errorf("read %d bytes, want the %d of the module", len(m.data), len(plain))
			}
		})
	}
}

func TestAModuleOfAnotherKernelIsRefused(t *testing.T) {
	tree, err := openTree(fstest.MapFS{"kernel/x.ko": {Data: elfModule(t, "vermagic=5.10.0 SMP")}}, testRelease)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tree.read("x"); err == nil || !strings.Contains(err.Error(), "5.10.0") || !strings.Contains(err.Error(), testRelease) {
		t.Errorf("read() = %v, want a refusal that names both kernels", err)
	}
}

func TestAnUpdateWinsOverTheModuleOfTheKernel(t *testing.T) {
	tree := moduleTree(t, nil, map[string][]string{"kernel/drivers/x.ko": nil, "updates/x.ko": nil, "extra/x.ko": nil})
	if got := tree.files["x"]; got != "updates/x.ko" {
		t.Errorf("module x is %s, want the one in updates", got)
	}
}
