package machine

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const sampleIndex = `veneer-modules 1
release 6.1.0-1-test
builtin virtio_pci
module reed_solomon
module dm_mod
module sha256_ssse3
module dm_verity dm_mod reed_solomon virtio_pci
optional sha256_ssse3 dm_verity
module usb_storage
alias usb:v*p*d*dc*dsc*dp*ic08isc06ip50in* usb_storage
alias pci:v00001AF4d*sv*sd*bc*sc*i* dm_mod
`

func loader(t *testing.T, index string, refuse ...string) (*Modules, *[]string) {
	t.Helper()
	m, err := ReadModules(strings.NewReader(index))
	if err != nil {
		t.Fatal(err)
	}
	var loaded []string
	m.insert = func(name string) error {
		for _, r := range refuse {
			if r == name {
				return errors.New("no such device")
			}
		}
		loaded = append(loaded, name)
		return nil
	}
	return m, &loaded
}

func TestAModuleIsLoadedOnceAfterWhatItNeeds(t *testing.T) {
	m, loaded := loader(t, sampleIndex)
	for range 2 {
		if err := m.Load("dm_verity"); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"sha256_ssse3", "dm_mod", "reed_solomon", "dm_verity"}, *loaded); diff != "" {
		t.Errorf("loaded (-want +got):\n%s", diff)
	}
}

func TestAnOptionalModuleMayFail(t *testing.T) {
	m, loaded := loader(t, sampleIndex, "sha256_ssse3")
	if err := m.Load("dm_verity"); err != nil {
		t.Fatalf("Load(dm_verity) without its optional module: %v", err)
	}
	if len(*loaded) != 3 {
		t.Errorf("loaded %v, want three modules", *loaded)
	}
}

func TestAnEmulatedCPUGetsNoOptionalModule(t *testing.T) {
	m, loaded := loader(t, sampleIndex)
	m.Emulated = true
	if err := m.Load("dm_verity"); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(*loaded, "sha256_ssse3") {
		t.Errorf("loaded %v on an emulated CPU", *loaded)
	}
}

func TestADependencyThatFailsFailsTheModuleAndIsTriedAgain(t *testing.T) {
	m, _ := loader(t, sampleIndex, "dm_mod")
	if err := m.Load("dm_verity"); err == nil {
		t.Fatal("Load(dm_verity) without dm_mod succeeded")
	}
	m.insert = func(string) error { return nil }
	if err := m.Load("dm_verity"); err != nil {
		t.Errorf("Load(dm_verity) once dm_mod loads: %v", err)
	}
}

func TestABuiltInModuleIsThere(t *testing.T) {
	m, loaded := loader(t, sampleIndex)
	if err := m.Load("virtio_pci"); err != nil || len(*loaded) != 0 {
		t.Errorf("Load(virtio_pci) = %v, loaded %v, want nothing to do", err, *loaded)
	}
}

func TestAModuleThatNobodyHasIsRefusedWithTheRemedy(t *testing.T) {
	m, _ := loader(t, sampleIndex)
	if err := m.Load("no_such_module"); err == nil || !strings.Contains(err.Error(), "kernel.modules.list") {
		t.Errorf("Load(no_such_module) = %v, want the remedy", err)
	}
}

func TestADeviceFindsItsDriver(t *testing.T) {
	m, _ := loader(t, sampleIndex)
	if got := m.Match("usb:v0951p1666d0110dc00dsc00dp00ic08isc06ip50in00"); len(got) != 1 || got[0] != "usb_storage" {
		t.Errorf("Match(a stick) = %v, want usb_storage", got)
	}
	if got := m.Match("usb:v0951p1666d0110dc00dsc00dp00ic03isc01ip01in00"); len(got) != 0 {
		t.Errorf("Match(a keyboard) = %v, want nothing", got)
	}
}

func TestAnotherKernelIsRefused(t *testing.T) {
	m, _ := loader(t, sampleIndex)
	if err := m.CheckRelease("6.1.0-2-test"); err == nil || !strings.Contains(err.Error(), "6.1.0-1-test") {
		t.Errorf("CheckRelease(another) = %v, want a refusal that names both", err)
	}
}

func TestABadIndexIsRefusedWithItsLine(t *testing.T) {
	for name, index := range map[string]string{
		"another format":             "veneer-modules 2\n",
		"a dependency further down":  "veneer-modules 1\nmodule a b\nmodule b\n",
		"a line that means nothing":  "veneer-modules 1\nhello\n",
		"an alias without a module":  "veneer-modules 1\nalias usb:*\n",
		"a release with two words":   "veneer-modules 1\nrelease a b\n",
		"an optional module for two": "veneer-modules 1\noptional a b c\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ReadModules(strings.NewReader(index)); err == nil || !strings.Contains(err.Error(), "line ") {
				t.Errorf("ReadModules(%q) = %v, want an error with its line", index, err)
			}
		})
	}
}

func TestUeventsAreParsed(t *testing.T) {
	e, ok := parseUevent([]byte("add@/devices/x/block/sda\x00ACTION=add\x00SUBSYSTEM=block\x00DEVNAME=sda\x00"))
	if !ok || e.action != "add" || e.vars["SUBSYSTEM"] != "block" || e.vars["DEVNAME"] != "sda" {
		t.Errorf("parseUevent() = %+v, %v", e, ok)
	}
	for _, bad := range []string{"", "libudev\x00\xfe\xed", "add@", "\x00\x00"} {
		if e, ok := parseUevent([]byte(bad)); ok {
			t.Errorf("parseUevent(%q) = %+v, want nothing", bad, e)
		}
	}
}

func FuzzUevent(f *testing.F) {
	f.Add([]byte("add@/devices/x\x00ACTION=add\x00SUBSYSTEM=block\x00"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		if e, ok := parseUevent(msg); ok && e.action == "" {
			t.Error("an event without an action")
		}
	})
}
