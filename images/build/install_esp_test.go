package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"veneer/images"
)

// release builds a version of a project whose kernel differs from that of other versions.
func (p project) release(t *testing.T, version string) string {
	t.Helper()
	kernel := testKernel()
	copy(kernel, "MZ")
	copy(kernel[0x380:], version)
	write(t, filepath.Join(p.dir, "kernel"), string(kernel))
	toml := filepath.Join(p.dir, "veneer.toml")
	write(t, toml, strings.Replace(string(read(t, toml)), `version = "1.2"`, fmt.Sprintf("version = %q", version), 1))
	out := p.build(t, nil)
	write(t, toml, strings.Replace(string(read(t, toml)), fmt.Sprintf("version = %q", version), `version = "1.2"`, 1))
	return out
}

func manifestOf(t *testing.T, out string) images.Manifest {
	t.Helper()
	man, err := images.ParseManifest(read(t, filepath.Join(out, images.ManifestName)))
	if err != nil {
		t.Fatal(err)
	}
	return man
}

// espOf copies the files of a disk's EFI system partition to a directory.
func espOf(t *testing.T, out string) string {
	t.Helper()
	d, err := openDisk(filepath.Join(out, outDisk))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	err = d.eachOnESP(t.Context(), func(name string, content []byte) error {
		at := filepath.Join(dir, name)
		return errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, content, 0o644))
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// starts tells which version UEFI and a BIOS would start of an EFI system partition, each part of it whole.
func starts(t *testing.T, esp string, sets ...images.Manifest) (uefi, bios string) {
	t.Helper()
	version := func(fits func(images.Manifest) error) string {
		var errs []error
		for _, man := range sets {
			err := fits(man)
			if err == nil {
				return man.Version
			}
			errs = append(errs, err)
		}
		t.Errorf("what would be started is of no set: %v", errors.Join(errs...))
		return ""
	}
	first := filepath.Join(esp, firstProgram("amd64"))
	if program := read(t, first); !isUKI(program[:4096]) {
		var entries []string
		list, err := os.ReadDir(filepath.Join(esp, entryDir))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			if f.Name()[0] != '.' {
				entries = append(entries, f.Name())
			}
		}
		slices.Sort(entries) // versions of one digit here
		first = filepath.Join(esp, entryDir, entries[len(entries)-1])
	}
	uefi = version(func(man images.Manifest) error { return ukiFits(read(t, first), man) })
	set := parseBIOSConfig(read(t, filepath.Join(esp, biosConfig)))["veneer"]
	bios = version(func(man images.Manifest) error {
		return errors.Join(contentIs(read(t, filepath.Join(esp, set.kernel)), man.Kernel.File), contentIs(read(t, filepath.Join(esp, set.initramfs)), man.Initramfs))
	})
	return uefi, bios
}

func TestAnInstallationThatIsCutOffLeavesWhatFirmwareStarts(t *testing.T) {
	for name, more := range map[string]string{"with a menu": "menu = true\ntries = 3\n", "without a menu": ""} {
		t.Run(name, func(t *testing.T) {
			p := mediaProject(t, more)
			old, fresh := p.release(t, "1.2"), p.release(t, "2.0")
			sets := []images.Manifest{manifestOf(t, old), manifestOf(t, fresh)}
			seen := map[string]int{}
			for k := 1; ; k++ {
				store, esp := t.TempDir(), espOf(t, old)
				if _, err := Install(t.Context(), InstallSpec{Output: old, Store: store, ESP: esp, Default: true, anyESP: true}); err != nil {
					t.Fatal(err)
				}
				n, cut := 0, errors.New("power cut")
				spec := InstallSpec{Output: fresh, Store: store, ESP: esp, Default: true, anyESP: true, stop: func(string) error {
					if n++; n == k {
						return cut
					}
					return nil
				}}
				r, err := Install(t.Context(), spec)
				if err != nil && !errors.Is(err, cut) {
					t.Fatal(err)
				}
				uefi, bios := starts(t, esp, sets...)
				serial, derr := images.Default(os.DirFS(filepath.Join(store, "veneer")))
				seen[uefi+" "+bios+" "+serial]++
				if derr != nil || serial == "2" && (uefi != "2.0" || bios != "2.0") {
					t.Errorf("cut off before change %d: deployment %s (%v) with the UKI of %s and the kernel for a BIOS of %s", k, serial, derr, uefi, bios)
				}
				if err == nil {
					former := "EFI/Linux/test-1.2.efi"
					if strings.Contains(more, "menu") {
						former = "EFI/Linux/test-1.2+3.efi"
					}
					if ferr := ukiFits(read(t, filepath.Join(esp, former)), sets[0]); ferr != nil || !slices.Contains(r.ESP.Former, former) || uefi != "2.0" {
						t.Errorf("an undisturbed installation starts %s and keeps %v: %v", uefi, r.ESP.Former, ferr)
					}
					if was := parseBIOSConfig(read(t, filepath.Join(esp, biosConfig)))["former"]; contentIs(read(t, filepath.Join(esp, was.kernel)), sets[0].Kernel.File) != nil {
						t.Error("the former kernel is not to be had from a BIOS")
					}
					break
				}
				spec.stop = nil
				if _, err := Install(t.Context(), spec); err != nil {
					t.Fatalf("cut off before change %d, the second installation: %v", k, err)
				}
				if uefi, bios := starts(t, esp, sets...); uefi != "2.0" || bios != "2.0" {
					t.Errorf("cut off before change %d and installed again: UEFI starts %s, a BIOS %s", k, uefi, bios)
				}
				left, err := filepath.Glob(filepath.Join(esp, "*/*/.new-*"))
				if more, _ := filepath.Glob(filepath.Join(esp, "*/.new-*")); err != nil || len(left)+len(more) > 0 {
					t.Errorf("cut off before change %d and installed again, %v %v are left", k, left, more)
				}
			}
			t.Logf("UEFI, BIOS, deployment: %v", seen)
			if len(seen) < 3 {
				t.Errorf("only %v were seen", seen)
			}
			r, err := Install(context.Background(), InstallSpec{Output: fresh, Store: t.TempDir(), ESP: espOf(t, fresh), Default: true, anyESP: true})
			if err != nil || len(r.ESP.Wrote) != 0 {
				t.Errorf("what is there already is written again: %+v, %v", r.ESP, err)
			}
		})
	}
}

// The same version, built anew, follows the other as any would.
func TestAnotherBuildOfTheSameVersionKeepsTheFormer(t *testing.T) {
	for name, more := range map[string]string{"with a menu": "menu = true\n", "with a menu that counts": "menu = true\ntries = 2\n", "without a menu": ""} {
		t.Run(name, func(t *testing.T) {
			p := mediaProject(t, more+"firmware = [\"uefi\"]\n")
			old := p.release(t, "1.2")
			write(t, filepath.Join(p.dir, "tree/etc/hostname"), "other\n")
			kernel := read(t, filepath.Join(p.dir, "kernel"))
			kernel[0x3f0] ^= 1
			write(t, filepath.Join(p.dir, "kernel"), string(kernel))
			fresh := p.build(t, nil)
			esp, store := espOf(t, old), t.TempDir()
			for _, out := range []string{old, fresh} {
				if _, err := Install(t.Context(), InstallSpec{Output: out, Store: store, ESP: esp, Default: true, anyESP: true}); err != nil {
					t.Fatal(err)
				}
			}
			if err := ukiFits(read(t, filepath.Join(esp, "EFI/Linux/test-1.2~former.efi")), manifestOf(t, old)); err != nil {
				t.Errorf("the former UKI: %v", err)
			}
			started := map[string]string{"": firstProgram("amd64"), "menu = true\n": "EFI/Linux/test-1.2.efi", "menu = true\ntries = 2\n": "EFI/Linux/test-1.2+2.efi"}[more]
			if err := ukiFits(read(t, filepath.Join(esp, started)), manifestOf(t, fresh)); err != nil {
				t.Errorf("%s: %v", started, err)
			}
		})
	}
}

func TestTheSystemPartitionOfOthersIsLeftAlone(t *testing.T) {
	p := mediaProject(t, "")
	out := p.release(t, "1.2")
	uki := read(t, filepath.Join(out, outUKI))
	foreign := bytes.Replace(uki, []byte(`IMAGE_ID="test"`), []byte(`IMAGE_ID="rest"`), 1)
	for _, c := range []struct {
		name    string
		first   []byte
		refused string
	}{
		{"a UKI of another product", foreign, "of another product is not replaced"},
		{"another loader", []byte("MZ, GRUB says"), "neither a UKI nor systemd-boot"},
		{"nothing", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			esp, store := t.TempDir(), t.TempDir()
			first := filepath.Join(esp, firstProgram("amd64"))
			if c.first != nil {
				if err := os.MkdirAll(filepath.Dir(first), 0o755); err != nil {
					t.Fatal(err)
				}
				write(t, first, string(c.first))
			}
			_, err := Install(t.Context(), InstallSpec{Output: out, Store: store, ESP: esp, Default: true, anyESP: true})
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) || !bytes.Equal(read(t, first), c.first) {
					t.Errorf("Install() = %v, want a refusal with %q", err, c.refused)
				}
				if _, err := os.Stat(filepath.Join(store, "veneer")); err == nil {
					t.Error("the store was begun")
				}
			} else if err != nil || !bytes.Equal(read(t, first), uki) {
				t.Errorf("Install() = %v, and the UKI is not what firmware starts", err)
			}
		})
	}
	r, err := Install(t.Context(), InstallSpec{Output: out, Store: t.TempDir(), Default: true})
	if err != nil || r.ESP != nil {
		t.Errorf("without --esp, in a directory of this host: %+v, %v", r.ESP, err)
	}
}

// The partition is a file system of its own here, of a size that two sets fit in.
func TestRoomIsMadeOfWhatNothingBoots(t *testing.T) {
	p := mediaProject(t, "menu = true\nfirmware = [\"uefi\"]\n")
	outs := []string{p.release(t, "1.2"), p.release(t, "2.0"), p.release(t, "3.0"), p.release(t, "4.0")}
	e := &renewal{man: manifestOf(t, outs[3]), out: outs[3], done: Renewed{Removed: []string{}}}
	e.files.Root = espOf(t, outs[0])
	for i, out := range outs[1:3] {
		write(t, filepath.Join(e.files.Root, entryDir, fmt.Sprintf("test-%d.0.efi", i+2)), string(read(t, filepath.Join(out, outUKI))))
	}
	current := manifestOf(t, outs[0])
	e.current = &current
	if err := e.look(); err != nil {
		t.Fatal(err)
	}
	if err := e.plan(t.Context()); err != nil || len(e.done.Removed) != 0 {
		t.Fatalf("with room enough: %v, %v", e.done.Removed, err)
	}
	uki := int64(len(read(t, filepath.Join(outs[3], outUKI))))
	for _, c := range []struct {
		free int64
		want []string
		err  string
	}{
		{uki + espMargin + 8192, []string{}, ""},
		{espMargin + 8192, []string{"EFI/Linux/test-2.0.efi"}, ""},
		{-uki, nil, "more are needed"},
	} {
		e.done.Removed = []string{}
		e.free = func() (int64, int64, error) { return c.free, 4096, nil }
		err := e.makeRoom()
		if c.err == "" && (err != nil || !slices.Equal(e.done.Removed, c.want)) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("with %d bytes free: %v, %v; want %v %s", c.free, e.done.Removed, err, c.want, c.err)
		}
		if slices.Contains(e.done.Removed, path.Join(entryDir, "test-1.2.efi")) {
			t.Error("what boots now is removed")
		}
	}
}
