package qemu

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// Accel is the way in which QEMU executes the guest's instructions.
type Accel string

// The accelerators.
const (
	TCG Accel = "tcg" // translation, works everywhere
	KVM Accel = "kvm" // the host's own virtualization
)

// ParseAccel reads the name of an accelerator.
func ParseAccel(s string) (Accel, error) {
	switch a := Accel(s); a {
	case TCG, KVM:
		return a, nil
	}
	return "", fmt.Errorf("accelerator %q: want tcg or kvm", s)
}

// probeLimit bounds a trial under KVM. A kernel that works there needs less than a second to the milestone.
const probeLimit = 3 * time.Second

// Probe finds out whether KVM works for a guest, by booting one.
type Probe struct {
	Arch     string // of the guest
	Kernel   string // booted for the trial
	Override string // tcg or kvm settles it without a trial; VENEER_ACCEL of the environment
	CacheDir string // verdicts are kept here until the next boot of the host; empty keeps none
	Device   string // /dev/kvm when empty
}

// Verdict is the outcome of a probe.
type Verdict struct {
	Accel Accel
	Why   string // for people
}

// bootMilestones are printed by a kernel that has found its CPUs, memory, timers and PCI bus, and then looks for a root
// that it was not given. A KVM that only pretends to work aborts at the first, or hangs between them.
var bootMilestones = []*regexp.Regexp{
	regexp.MustCompile(`Linux version`),
	regexp.MustCompile(`(VFS: Cannot open root|Unable to mount root|No filesystem could mount root|Run \S+ as init)`),
}

// Run returns KVM only if the kernel boots under it here within a few seconds, and TCG otherwise. That /dev/kvm opens, or
// that QEMU starts, proves nothing: nested virtualization is often half there. The error is only about Override.
func (p Probe) Run(ctx context.Context) (Verdict, error) {
	if p.Override != "" {
		accel, err := ParseAccel(p.Override)
		return Verdict{accel, "VENEER_ACCEL asks for it"}, err
	}
	if p.Arch != runtime.GOARCH {
		return Verdict{TCG, "the guest's architecture is not the host's"}, nil
	}
	device := orDefault(p.Device, "/dev/kvm")
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return Verdict{TCG, err.Error()}, nil
	}
	f.Close()
	if p.Kernel == "" {
		return Verdict{TCG, "there is no kernel to try KVM with"}, nil
	}
	name := p.cacheName(ctx)
	if v, ok := p.recall(name); ok {
		return v, nil
	}
	v := p.try(ctx)
	if ctx.Err() == nil { // an interrupted trial says nothing about KVM
		p.remember(name, v)
	}
	return v, nil
}

// try boots the kernel for a moment.
func (p Probe) try(ctx context.Context) Verdict {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	vm := VM{Arch: p.Arch, Kernel: p.Kernel, MemoryMiB: 256, Accel: KVM, NoReboot: true}
	console, err := vm.Console()
	if err != nil {
		return Verdict{TCG, err.Error()}
	}
	vm.Append = []string{"console=" + console, "panic=-1"}
	g, err := Spawn(ctx, vm, Console{})
	if err != nil {
		return Verdict{TCG, "KVM failed: " + err.Error()}
	}
	defer g.Kill()
	for _, milestone := range bootMilestones {
		if _, err := g.Transcript.Expect(ctx, milestone); err != nil {
			why := fmt.Sprintf("a guest under KVM did not get to %q%s", milestone, g.lastWords(err))
			return Verdict{TCG, strings.Join(strings.Fields(why), " ")}
		}
	}
	return Verdict{KVM, "a guest booted under KVM"}
}

// cacheName identifies what a verdict depends on: this boot of the host, the QEMU, the architecture.
func (p Probe) cacheName(ctx context.Context) string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	program, programErr := findProgram(p.Arch)
	version, versionErr := exec.CommandContext(ctx, program, "--version").Output()
	if p.CacheDir == "" || errors.Join(err, programErr, versionErr) != nil {
		return ""
	}
	sum := sha256.Sum256([]byte(string(boot) + p.Arch + string(version)))
	return filepath.Join(p.CacheDir, "accel-"+hex.EncodeToString(sum[:8]))
}

func (p Probe) recall(name string) (Verdict, bool) {
	if name == "" {
		return Verdict{}, false
	}
	content, err := os.ReadFile(name)
	if err != nil {
		return Verdict{}, false
	}
	word, why, _ := strings.Cut(strings.TrimSpace(string(content)), "\n")
	accel, err := ParseAccel(word)
	return Verdict{accel, why}, err == nil
}

// remember keeps a verdict; a cache that cannot be written only costs another trial.
func (p Probe) remember(name string, v Verdict) {
	if name == "" || os.MkdirAll(p.CacheDir, 0o755) != nil {
		return
	}
	f, err := os.CreateTemp(p.CacheDir, "accel")
	if err != nil {
		return
	}
	defer os.Remove(f.Name()) // fails once it has been renamed
	_, err = fmt.Fprintf(f, "%s\n%s\n", v.Accel, v.Why)
	if errors.Join(err, f.Close()) == nil {
		_ = os.Rename(f.Name(), name)
	}
}
