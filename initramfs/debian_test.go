package initramfs

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// kernelPackage returns a Debian kernel package, which .ci/fetch-kernel has put into the cache.
func kernelPackage(t *testing.T, arch, kind string) string {
	t.Helper()
	cache := os.Getenv("VENEER_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(home, ".cache/veneer")
	}
	file := filepath.Join(cache, "kernel-"+kind+"-"+arch+".deb")
	if _, err := os.Stat(file); err != nil {
		t.Skipf("no Debian kernel to try: run .ci/fetch-kernel %s %s", arch, kind)
	}
	return file
}

func debianKernel(t *testing.T, arch, kind string) *Kernel {
	t.Helper()
	k, err := OpenKernelDeb(t.Context(), kernelPackage(t, arch, kind))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// TestTheGenericPolicyKeepsItsSize holds the whole initramfs, with the prebuilt init, against what the project promises.
func TestTheGenericPolicyKeepsItsSize(t *testing.T) {
	const MB = 1_000_000
	for _, tt := range []struct {
		arch, kind string
		goal       int64
	}{{"amd64", "cloud", 4 * MB}, {"arm64", "cloud", 4 * MB}, {"amd64", "full", 6 * MB}, {"arm64", "full", 6 * MB}} {
		t.Run(tt.kind+" "+tt.arch, func(t *testing.T) {
			k := debianKernel(t, tt.arch, tt.kind)
			if k.Arch != tt.arch {
				t.Errorf("kernel for %s, want %s", k.Arch, tt.arch)
			}
			if _, err := Prebuilt(tt.arch, "init"); err != nil {
				t.Skipf("%v", err)
			}
			start := time.Now()
			r, err := Build(t.Context(), io.Discard, Spec{Kernel: k, Need: []string{"squashfs", "erofs"}, AllowUnsigned: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("kernel %s: %d modules, %d bytes, packed %d, in %v", k.Release, len(r.Modules), r.Raw, r.Compressed, time.Since(start).Round(time.Millisecond))
			if r.Compressed > tt.goal {
				t.Errorf("%d bytes, want at most %d", r.Compressed, tt.goal)
			}
		})
	}
}

func TestEachBusOfABootMediumHasItsDriver(t *testing.T) {
	k := debianKernel(t, "amd64", "full")
	s, err := choose(k.modules, k.Arch, Policy{}, []string{"squashfs", "erofs"})
	if err != nil {
		t.Fatal(err)
	}
	standsInOrder(t, s)
	index := string(s.index(k.Release))
	for device, alias := range map[string]string{
		"virtio on PCI":        "pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci",
		"virtio disk":          "virtio:d00000002v* virtio_blk",
		"virtio SCSI":          "virtio:d00000008v* virtio_scsi",
		"AHCI":                 "pci:v*d*sv*sd*bc01sc06i01* ahci",
		"ATA of QEMU's i440fx": "pci:v00008086d00007010sv*sd*bc*sc*i* ata_piix",
		"NVMe":                 "pci:v*d*sv*sd*bc01sc08i02* nvme",
		"xHCI":                 "pci:v*d*sv*sd*bc0Csc03i30* xhci_pci",
		"USB storage":          "usb:v*p*d*dc*dsc*dp*ic08isc06ip50in* usb_storage",
		"UAS":                  "usb:v*p*d*dc*dsc*dp*ic08isc06ip62in* uas",
		"SD host":              "pci:v*d*sv*sd*bc08sc05i* sdhci_pci",
		"SD card":              "mmc:block mmc_block",
		"SCSI disk":            "scsi:t-0x00* sd_mod",
		"CD-ROM":               "scsi:t-0x05* sr_mod",
		"Xen disk":             "xen:vbd xen_blkfront",
		"USB keyboard":         "usb:v*p*d*dc*dsc*dp*ic03isc*ip*in* usbhid",
		"HID":                  "hid:b*g*v*p* hid_generic",
		"SD host of ACPI":      "acpi:*80860F14:* sdhci_acpi",
	} {
		if !strings.Contains(index, "\nalias "+alias+"\n") {
			t.Errorf("%s: no line %q in the index", device, alias)
		}
	}
}

// TestDependenciesAreThoseOfDepmod compares with the program whose work this package does.
func TestDependenciesAreThoseOfDepmod(t *testing.T) {
	depmod := "/sbin/depmod"
	if _, err := os.Stat(depmod); err != nil {
		t.Skip("depmod is not installed: apt-get install kmod")
	}
	k := debianKernel(t, "amd64", "full")
	s, err := choose(k.modules, k.Arch, Policy{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	dir := filepath.Join(base, "lib/modules", k.Release)
	for _, m := range s.order {
		file := filepath.Join(dir, m.path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, m.data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(depmod, "-b", base, k.Release).CombinedOutput(); err != nil {
		t.Fatalf("depmod: %v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		file, list, _ := strings.Cut(lines.Text(), ":")
		var want []string
		for _, dep := range strings.Fields(list) {
			want = append(want, moduleName(dep))
		}
		got := s.below(moduleName(file))
		// Soft dependencies are no business of modules.dep.
		got = slices.DeleteFunc(got, func(name string) bool { return !slices.Contains(want, name) })
		if slices.Sort(want); len(want)+len(got) == 0 {
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("what %s needs (-depmod +here):\n%s", file, diff)
		}
	}
}

// below returns all that a module needs, and what that needs, sorted.
func (s *selection) below(name string) []string {
	all := map[string]bool{}
	var walk func(string)
	walk = func(name string) {
		for _, dep := range s.deps[name] {
			if !s.builtin[dep] && !all[dep] {
				all[dep] = true
				walk(dep)
			}
		}
	}
	walk(name)
	return slices.Sorted(maps.Keys(all))
}

// TestTheKernelUnpacksTheArchive boots it. PID 1 finds no store and says so: that line shows that the kernel took each part,
// found /init, and that the init could read its index and the command line built in.
func TestTheKernelUnpacksTheArchive(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine: run without -short")
	}
	for _, tt := range []struct {
		arch, program, console string
		args                   []string
	}{
		{"amd64", "qemu-system-x86_64", "ttyS0", []string{"-cpu", "max"}},
		{"arm64", "qemu-system-aarch64", "ttyAMA0", []string{"-M", "virt", "-cpu", "max,pauth-impdef=on"}},
	} {
		t.Run(tt.arch, func(t *testing.T) {
			if _, err := exec.LookPath(tt.program); err != nil {
				t.Skipf("%s is not installed: apt-get install qemu-system-x86 qemu-system-arm", tt.program)
			}
			k := debianKernel(t, tt.arch, "cloud")
			image, archive := kernelAndInitramfs(t, k)
			args := append(tt.args, "-accel", "tcg", "-m", "512", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
				"-kernel", image, "-initrd", archive, "-append", "console="+tt.console+" panic=-1")
			out, err := exec.CommandContext(t.Context(), "timeout", append([]string{"90", tt.program}, args...)...).CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v\n%s", tt.program, err, out)
			}
			if want := "LABEL=NO-SUCH-STORE"; !bytes.Contains(out, []byte("find store")) || !bytes.Contains(out, []byte(want)) {
				t.Errorf("the console does not show that PID 1 looked for %s:\n%s", want, out)
			}
		})
	}
}

func kernelAndInitramfs(t *testing.T, k *Kernel) (image, archive string) {
	t.Helper()
	if _, err := Prebuilt(k.Arch, "init"); err != nil {
		t.Skipf("%v", err)
	}
	dir := t.TempDir()
	image, archive = filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initramfs.cpio.zst")
	var packed bytes.Buffer
	_, err := Build(t.Context(), &packed, Spec{Kernel: k, AllowUnsigned: true, RescueShell: true,
		Defaults: "veneer.store=LABEL=NO-SUCH-STORE veneer.on-fail=poweroff veneer.wait=1s"})
	if err != nil {
		t.Fatal(err)
	}
	r, size, err := k.Image()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	plain, err := io.ReadAll(r)
	if err == nil && int64(len(plain)) != size {
		err = fmt.Errorf("kernel image of %d bytes, read %d", size, len(plain))
	}
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{image: plain, archive: packed.Bytes()} {
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return image, archive
}
