package qemu

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestProbe(t *testing.T) {
	kvm := filepath.Join(t.TempDir(), "kvm")
	writeFile(t, kvm, "")
	cases := []struct {
		name  string
		probe Probe
		want  Accel
		why   string
	}{
		{"an override settles it", Probe{Arch: "amd64", Override: "kvm"}, KVM, "VENEER_ACCEL"},
		{"a foreign architecture is translated", Probe{Arch: "sparc"}, TCG, "not the host's"},
		{"a host without KVM translates", Probe{Arch: "amd64", Device: "/nonexistent"}, TCG, "no such file"},
		{"no trial without a kernel", Probe{Arch: "amd64", Device: kvm}, TCG, "no kernel"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.probe.Run(soon(t))
			if err != nil {
				t.Fatal(err)
			}
			if got.Accel != c.want || !strings.Contains(got.Why, c.why) {
				t.Errorf("Run() = %v, want %s because of %q", got, c.want, c.why)
			}
		})
	}
	if _, err := (Probe{Arch: "amd64", Override: "warp"}).Run(soon(t)); err == nil {
		t.Error("Run() accepted the override warp")
	}
}

func TestProbeFallsBackWithinItsLimit(t *testing.T) {
	fakeQEMU(t, `[ "$1" = --version ] && echo "QEMU 1.0" && exit; echo "Linux version 6.1"; exec sleep 60`)
	p := Probe{Arch: "amd64", Kernel: "/vmlinuz", Device: "/dev/null", CacheDir: t.TempDir()}
	begin := time.Now()
	v, err := p.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if v.Accel != TCG || !strings.Contains(v.Why, "did not get to") {
		t.Errorf("Run() with a guest that hangs = %v, want tcg and the milestone that was missed", v)
	}
	if spent := time.Since(begin); spent > 2*probeLimit {
		t.Errorf("Run() took %v, want at most %v", spent, 2*probeLimit)
	}
	begin = time.Now()
	again, err := p.Run(context.Background())
	if err != nil || again != v {
		t.Errorf("Run() for the second time = %v, %v; want %v", again, err, v)
	}
	if spent := time.Since(begin); spent > time.Second {
		t.Errorf("Run() for the second time took %v, want the verdict that was kept", spent)
	}
}

func TestProbeBelievesAGuestThatBoots(t *testing.T) {
	fakeQEMU(t, `[ "$1" = --version ] && echo "QEMU 1.0" && exit; echo "Linux version 6.1"; echo "VFS: Cannot open root device"; exec sleep 60`)
	v, err := Probe{Arch: "amd64", Kernel: "/vmlinuz", Device: "/dev/null"}.Run(context.Background())
	if err != nil || v.Accel != KVM {
		t.Errorf("Run() = %v, %v; want kvm", v, err)
	}
}

func TestProbeHere(t *testing.T) {
	vm := bootVM(t)
	begin := time.Now()
	v, err := Probe{Arch: vm.Arch, Kernel: vm.Kernel}.Run(soonVM(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %s (%v)", v.Accel, v.Why, time.Since(begin).Round(time.Millisecond))
	if limit := probeLimit + 2*killGrace; time.Since(begin) > limit {
		t.Errorf("Run() took %v, want at most %v", time.Since(begin), limit)
	}
	// Whatever was chosen must boot.
	vm.Accel = v.Accel
	g := start(t, soonVM(t), vm, nil)
	expect(t, g, `(?m)^ready,`)
}

func TestMissingProgramNamesItsPackage(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for arch, pkg := range map[string]string{"amd64": "qemu-system-x86", "arm64": "qemu-system-arm"} {
		for name, start := range map[string]func() error{
			"Start": func() error { _, err := Start(soon(t), VM{Arch: arch}, nil); return err },
			"Spawn": func() error { _, err := Spawn(soon(t), VM{Arch: arch}, Console{}); return err },
			"Attach": func() error {
				return Attach(soon(t), VM{Arch: arch}, Console{}, Terminal{os.Stdin, os.Stdout, os.Stderr})
			},
		} {
			if err := start(); err == nil || !strings.Contains(err.Error(), "apt-get install "+pkg) {
				t.Errorf("%s for %s = %v, want the package %s", name, arch, err, pkg)
			}
		}
	}
}

// fakeQEMU puts a shell script in the place of QEMU.
func fakeQEMU(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "qemu-system-x86_64")
	writeFile(t, path, "#!/bin/sh\n"+script+"\n")
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}
