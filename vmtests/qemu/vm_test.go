package qemu

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestArgs(t *testing.T) {
	everyBus := []Disk{}
	for _, bus := range Buses() {
		everyBus = append(everyBus, Disk{Path: string(bus) + ".img", Bus: bus})
	}
	cases := []struct {
		name string
		vm   VM
	}{
		{"an amd64 VM with nothing set", VM{Arch: "amd64"}},
		{"an arm64 VM with nothing set", VM{Arch: "arm64"}},
		{"a direct kernel boot", VM{Arch: "amd64", Kernel: "out/vmlinuz", Initrd: "out/initramfs.cpio.zst",
			Append: []string{"console=ttyS0", "quiet"}, MemoryMiB: 256, CPUs: 2, Slots: 2, Net: true, NoReboot: true}},
		{"a TPM on amd64", VM{Arch: "amd64", TPM: "/run/tpm"}},
		{"a TPM on arm64", VM{Arch: "arm64", TPM: "/run/tpm"}},
		{"KVM uses the CPU of the host", VM{Arch: "amd64", Accel: KVM}},
		{"a window gets a graphics card and a keyboard", VM{Arch: "amd64", Display: "gtk"}},
		{"a disk on every bus on amd64", VM{Arch: "amd64", Disks: everyBus}},
		{"a disk on every bus on arm64", VM{Arch: "arm64", Disks: everyBus}},
		{"two disks of a kind share a controller", VM{Arch: "amd64", Disks: []Disk{
			{Path: "a", Bus: VirtioSCSI}, {Path: "b", Bus: VirtioSCSI}, {Path: "c", Bus: UAS}, {Path: "d", Bus: UAS}, {Path: "e", Bus: AHCI}, {Path: "f", Bus: CDROM}}}},
		{"a disk whose writes are recorded", VM{Arch: "amd64", Disks: []Disk{{Path: "a,b.img", Log: "a,b.log"}}}},
		{"a comma in a value is doubled", VM{Arch: "amd64", QMP: "/run/a,b", Disks: []Disk{
			{Path: "/a,b/c.img", Serial: "x,y", ReadOnly: true, Snapshot: true, Format: "qcow2"}}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			args, err := c.vm.Args()
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "args-"+strings.ReplaceAll(c.name, " ", "-"), strings.Join(args, "\n")+"\n")
		})
	}
}

func TestArgsRefuses(t *testing.T) {
	cases := []struct {
		name string
		vm   VM
		want []string
	}{
		{"an architecture without a machine", VM{Arch: "mips"}, []string{`"mips"`, "amd64 or arm64"}},
		{"an unknown accelerator", VM{Arch: "amd64", Accel: "warp"}, []string{`"warp"`}},
		{"an initramfs without a kernel", VM{Arch: "amd64", Initrd: "x"}, []string{"need a kernel"}},
		{"an unknown bus", VM{Arch: "amd64", Disks: []Disk{{Path: "x", Bus: "floppy"}}}, []string{`"floppy"`, "virtio-blk"}},
		{"a write-protected AHCI disk", VM{Arch: "amd64", Disks: []Disk{{Path: "x", Bus: AHCI, ReadOnly: true}}}, []string{"snapshot"}},
		{"a second SD card", VM{Arch: "amd64", Disks: []Disk{{Path: "x", Bus: SD}, {Path: "y", Bus: SD}}}, []string{"disk y"}},
		{"more CPUs than a machine takes", VM{Arch: "amd64", CPUs: 9999}, []string{"9999 CPUs: want 1 to 255"}},
		{"a window that no QEMU has", VM{Arch: "amd64", Display: "foo,gl=on"}, []string{`display "foo,gl=on": want one of none, gtk`}},
		{"several problems at once, in order", VM{Arch: "amd64", MemoryMiB: -1, CPUs: -2, Disks: []Disk{{}}},
			[]string{"memory of -1", "-2 CPUs", "disk 0 names no file"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.vm.Args()
			if err == nil {
				t.Fatal("Args() accepted it")
			}
			rest := err.Error()
			for _, want := range c.want {
				_, after, found := strings.Cut(rest, want)
				if !found {
					t.Fatalf("Args() = %q, want %q in this order", err, c.want)
				}
				rest = after
			}
		})
	}
}

func TestParseDisk(t *testing.T) {
	dir := t.TempDir()
	raw, qcow2 := filepath.Join(dir, "a,b.img"), filepath.Join(dir, "c.img")
	writeFile(t, raw, strings.Repeat("QF", 256))
	writeFile(t, qcow2, "QFI\xfb and more")
	escaped := strings.ReplaceAll(raw, ",", ",,")
	cases := []struct {
		name, in string
		want     Disk
	}{
		{"a comma in the path is written twice", escaped, Disk{Path: raw, Format: "raw", Bus: VirtioBlk}},
		{"the format is read from the file", qcow2 + ",bus=nvme", Disk{Path: qcow2, Format: "qcow2", Bus: NVMe}},
		{"every option", qcow2 + ",bus=uas,format=raw,serial=1,,2,readonly,snapshot",
			Disk{Path: qcow2, Format: "raw", Bus: UAS, Serial: "1,2", ReadOnly: true, Snapshot: true}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseDisk(c.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("ParseDisk(%q) (-want +got):\n%s", c.in, diff)
			}
		})
	}
	for _, bad := range []string{"", ",bus=usb", raw, escaped + ",bus=floppy", escaped + ",colour=red", escaped + ",format=vmdk", filepath.Join(dir, "missing,format=raw"), filepath.Join(dir, "missing"), "/dev/zero", dir} {
		if d, err := ParseDisk(bad); err == nil {
			t.Errorf("ParseDisk(%q) = %v, want an error", bad, d)
		}
	}
}

func FuzzParseDisk(f *testing.F) {
	disk := filepath.Join(f.TempDir(), "disk")
	if err := os.WriteFile(disk, make([]byte, 512), 0o644); err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{"", ",bus=nvme,format=raw", ",format=raw,serial=a,,b", ",,,"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDisk(disk + s)
		if err != nil {
			return
		}
		if _, err := (VM{Arch: "amd64", Disks: []Disk{d}}).Args(); err != nil {
			t.Errorf("ParseDisk(%q) accepted what Args refuses: %v", s, err)
		}
	})
}

// golden compares got with testdata/name, or writes it under -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		writeFile(t, path, got)
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run 'go test ./vmtests/qemu -update' and review the file", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
