package initramfs

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// small is a kernel with the modules that every boot needs, and what makes choosing hard: names with dashes, built-in
// modules, algorithms with several implementations, a circle of soft dependencies.
func small(t testing.TB) *tree {
	return moduleTree(t, []string{"kernel/fs/ext4/ext4.ko", "kernel/crypto/sha256_generic.ko crypto-sha256", "kernel/drivers/virtio/virtio.ko"},
		map[string][]string{
			"kernel/drivers/block/loop.ko":            {"alias=devname:loop-control", "alias=char-major-10-237"},
			"kernel/drivers/md/dm-mod.ko":             {"softdep=post: dm-late"},
			"kernel/drivers/md/dm-bufio.ko":           {"depends=dm-mod"},
			"kernel/drivers/md/dm-verity.ko":          {"depends=reed_solomon,dm-mod,dm-bufio"},
			"kernel/lib/reed_solomon/reed_solomon.ko": nil,
			"kernel/fs/overlayfs/overlay.ko":          {"alias=fs-overlay"},
			"kernel/fs/squashfs/squashfs.ko":          nil,
			"kernel/fs/btrfs/btrfs.ko":                {"depends=raid6_pq", "softdep=pre: crypto-crc32c", "softdep=pre: xxhash64", "softdep=pre: no-such-thing"},
			"kernel/lib/raid6/raid6_pq.ko":            nil,
			"kernel/crypto/crc32c_generic.ko":         {"alias=crypto-crc32c"},
			"kernel/arch/x86/crypto/crc32c-intel.ko":  {"alias=crypto-crc32c", "alias=cpu:type:x86,ven*fam*mod*:feature:*0094*"},
			"kernel/crypto/xxhash_generic.ko":         {"alias=xxhash64"},
			"kernel/arch/x86/crypto/sha256-ssse3.ko":  {"alias=crypto-sha256"},
			"kernel/drivers/crypto/card.ko":           {"alias=crypto-sha256"},
			"kernel/drivers/virtio/virtio_pci.ko":     {"depends=virtio,virtio_ring", "alias=pci:v00001AF4d*sv*sd*bc*sc*i*"},
			"kernel/drivers/virtio/virtio_ring.ko":    {"softdep=pre: virtio_pci"},
			"kernel/drivers/mmc/host/sdhci-acpi.ko":   {"alias=acpi*:80860F14:*"},
			"kernel/drivers/hid/hid-generic.ko":       {"alias=hid:b*g*v*p*"},
		})
}

func TestTheIndexListsWhatToLoadInOrder(t *testing.T) {
	for name, p := range map[string]Policy{
		"generic": {},
		"list":    {Kind: List, Modules: []string{"virtio-pci", "sdhci_acpi"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := choose(small(t), "amd64", p, []string{"squashfs"})
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".index", s.index(testRelease))
			standsInOrder(t, s)
		})
	}
}

// standsInOrder holds an index against the promise that PID 1 relies on.
func standsInOrder(t *testing.T, s *selection) {
	t.Helper()
	have := map[string]bool{}
	for name := range s.builtin {
		have[name] = true
	}
	for _, m := range s.order {
		name := moduleName(m.path)
		for _, dep := range s.deps[name] {
			if !have[dep] {
				t.Errorf("module %s stands before %s, which it depends on", name, dep)
			}
		}
		have[name] = true
	}
	for _, v := range s.optional {
		if !have[v.name] || !have[v.before] {
			t.Errorf("optional %s %s: both must be there", v.name, v.before)
		}
	}
}

func TestWhatTheKernelLacksIsReported(t *testing.T) {
	s, err := choose(small(t), "amd64", Policy{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := s.report()
	if diff := cmp.Diff([]string{"ext4", "sha256_generic", "virtio"}, r.Builtin); diff != "" {
		t.Errorf("built in (-want +got):\n%s", diff)
	}
	if i := index(r.Missing, "nvme"); i < 0 || r.Missing[i].Why != "NVMe" {
		t.Errorf("missing %v, want nvme with its reason", r.Missing)
	}
	if index(r.Missing, "no-such-thing") < 0 {
		t.Errorf("missing %v, want the soft dependency that nothing provides", r.Missing)
	}
}

func index(missing []Missing, name string) int {
	for i, m := range missing {
		if m.Name == name {
			return i
		}
	}
	return -1
}

func TestAHIDDriverComesOnlyWithItsBus(t *testing.T) {
	s, err := choose(small(t), "amd64", Policy{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, taken := s.why["hid_generic"]; taken {
		t.Error("hid_generic was taken without usbhid")
	}
}

func TestModulesThatCannotBeHadAreRefusedTogether(t *testing.T) {
	_, err := choose(small(t), "amd64", Policy{Kind: List, Modules: []string{"virtio_pcy", "nothing_like_it"}}, []string{"erofs"})
	if err == nil {
		t.Fatal("choose() = nil, want an error")
	}
	for _, want := range []string{"erofs", "virtio_pcy", "near names: virtio_pci", "nothing_like_it", testRelease} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("choose() = %v, want it to name %q", err, want)
		}
	}
}

func TestAKernelWithoutVerityIsRefused(t *testing.T) {
	tree := small(t)
	delete(tree.files, "dm_verity")
	if _, err := choose(tree, "amd64", Policy{}, nil); err == nil || !strings.Contains(err.Error(), "dm_verity") {
		t.Errorf("choose() = %v, want it to name dm_verity", err)
	}
}

func TestAnImplementationForSomeCPUsIsNeverDemanded(t *testing.T) {
	tree := small(t)
	tree.builtinAlias = nil // as if modules.builtin.modinfo were not there
	s, err := choose(tree, "amd64", Policy{Kind: List}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"reed_solomon", "dm_mod", "dm_bufio"}, s.deps["dm_verity"]); diff != "" {
		t.Errorf("dependencies of dm_verity (-want +got):\n%s", diff)
	}
	if len(s.optional) != 1 || s.optional[0].name != "sha256_ssse3" {
		t.Errorf("optional = %v, want sha256_ssse3", s.optional)
	}
}

func TestAModulesDirectoryWithoutADependencyIsRefused(t *testing.T) {
	tree := small(t)
	delete(tree.files, "reed_solomon")
	if _, err := choose(tree, "amd64", Policy{}, nil); err == nil || !strings.Contains(err.Error(), "complete") {
		t.Errorf("choose() = %v, want it to ask whether the directory is complete", err)
	}
}

func TestAnUnknownPolicyIsRefused(t *testing.T) {
	if _, err := choose(small(t), "amd64", Policy{Kind: "everything"}, nil); err == nil || !strings.Contains(err.Error(), Generic) {
		t.Errorf("choose() = %v, want it to name the policies that there are", err)
	}
}

func TestModulesCanBeNamedInAdditionToTheGenericOnes(t *testing.T) {
	s, err := choose(small(t), "amd64", Policy{Modules: []string{"card"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.why["card"] != "named" || s.why["btrfs"] == "" {
		t.Errorf("took %v, want card as well as btrfs", s.why)
	}
}

func TestAKernelWithoutModulesHasEverythingBuiltIn(t *testing.T) {
	s, err := choose(nil, "amd64", Policy{Kind: List}, []string{"squashfs"})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.order) > 0 || !s.builtin["dm_verity"] || !s.builtin["squashfs"] {
		t.Errorf("order %v, built in %v, want no files and everything built in", s.order, s.builtin)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; run the test with -update", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}
