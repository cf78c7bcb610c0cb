package initramfs

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/mkuimage/cpio"
	"golang.org/x/sys/unix"
)

// names of modules, sorted.
func names(modules []*module) []string {
	var all []string
	for _, m := range modules {
		all = append(all, moduleName(m.path))
	}
	slices.Sort(all)
	return all
}

func TestWhatNearlyEveryBootLoadsIsAtHandWithWhatItNeeds(t *testing.T) {
	s, err := choose(small(t), "amd64", Policy{}, []string{"squashfs"})
	if err != nil {
		t.Fatal(err)
	}
	hand, reserve := s.split([]string{"squashfs"})
	wantHand := []string{"dm_bufio", "dm_mod", "dm_verity", "loop", "overlay", "reed_solomon", "sha256_ssse3", "squashfs", "virtio_pci", "virtio_ring"}
	if diff := cmp.Diff(wantHand, names(hand)); diff != "" {
		t.Errorf("at hand (-want +got):\n%s", diff)
	}
	wantReserve := []string{"btrfs", "crc32c_generic", "crc32c_intel", "raid6_pq", "sdhci_acpi", "xxhash_generic"}
	if diff := cmp.Diff(wantReserve, names(reserve)); diff != "" {
		t.Errorf("in reserve (-want +got):\n%s", diff)
	}
	if hand, reserve := s.split([]string{"btrfs"}); len(reserve) > 0 || len(hand) != len(s.order) {
		t.Errorf("without squashfs %v are in reserve, want all modules at hand", names(reserve))
	}
}

func TestTheReserveIsAnImageThatUnsquashfsReads(t *testing.T) {
	for _, tool := range []string{"mksquashfs", "unsquashfs"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: apt-get install squashfs-tools", tool)
		}
	}
	s := spec(t)
	s.Policy, s.Need = Policy{Modules: []string{"hid-generic"}}, []string{"squashfs"}
	first, _ := built(t, s)
	t.Setenv("SOURCE_DATE_EPOCH", "86400")
	defer unix.Umask(unix.Umask(0o077))
	if second, _ := built(t, s); !bytes.Equal(first, second) {
		t.Error("two builds of one spec differ")
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(unzstd(t, first))))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(records, func(r cpio.Record) bool { return r.Name == reserveImage })
	if i < 0 {
		t.Fatalf("no %s in the archive", reserveImage)
	}
	dir := t.TempDir()
	image, err := io.ReadAll(io.NewSectionReader(records[i], 0, int64(records[i].FileSize)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "image"), image, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unsquashfs", "-q", "-n", "-d", filepath.Join(dir, "tree"), filepath.Join(dir, "image"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("unsquashfs: %v\n%s", err, out)
	}
	chosen, err := choose(s.Kernel.modules, s.Kernel.Arch, s.Policy, s.Need)
	if err != nil {
		t.Fatal(err)
	}
	_, reserve := chosen.split(s.Need)
	for _, m := range reserve {
		name := moduleName(m.path) + ".ko"
		if got, err := os.ReadFile(filepath.Join(dir, "tree", name)); err != nil || !bytes.Equal(got, m.data) {
			t.Errorf("%s in the reserve is not the module (%v)", name, err)
		}
		if slices.ContainsFunc(records, func(r cpio.Record) bool { return strings.HasSuffix(r.Name, "/"+name) }) {
			t.Errorf("%s is there twice", name)
		}
	}
	if len(reserve) == 0 {
		t.Error("nothing is in reserve")
	}
}
