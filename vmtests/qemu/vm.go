package qemu

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Defaults of a VM whose fields are zero.
const (
	defaultMemoryMiB = 1024
	defaultCPUs      = 1
)

// MaxCPUs is the most that both machine types take.
const MaxCPUs = 255

// displays are the windows that QEMU may have been built with, but for that of VNC, which needs an address.
var displays = []string{"none", "gtk", "sdl", "curses", "cocoa", "dbus", "egl-headless", "spice-app"}

// VM describes a virtual machine. The zero value of each field but Arch is a sensible default.
type VM struct {
	Arch      string   // Go's name: amd64 or arm64
	Firmware  Firmware // the machine's own when zero
	Kernel    string   // booted directly; without one the firmware looks for a boot medium among the disks
	Initrd    string   // only with Kernel
	Append    []string // kernel command line, joined by spaces; only with Kernel
	MemoryMiB int      // 1024 when zero
	CPUs      int      // 1 when zero
	Machine   string   // QEMU machine type with its options; q35 or virt when empty
	Accel     Accel    // TCG when empty
	Disks     []Disk   // in the order in which the guest finds those of one bus
	Slots     int      // free PCI slots for Guest.Plug
	Net       bool     // a virtio network card behind QEMU's user network
	NICs      []string // further network cards, each the value of -nic
	Display   string   // value of -display; "none" when empty
	NoReboot  bool     // a reset of the guest ends QEMU
	UUID      string   // of the machine, as its firmware tells it
	TPM       string   // path of the control socket of a swtpm, for a TPM 2.0
	QMP       string   // path of a unix socket on which QEMU shall serve QMP
}

// platform is what differs between the architectures.
type platform struct {
	system  string // qemu-system-…
	pkg     string // the Debian package that holds it
	machine string
	cpu     string // under TCG
	console string // the first serial port, as the kernel names it
	tpm     string // the device of a TPM
}

var platforms = map[string]platform{
	"amd64": {"qemu-system-x86_64", "qemu-system-x86", "q35", "max", "ttyS0", "tpm-crb"},
	// QEMU's own pointer authentication hash costs a third of the time under TCG with the architected algorithm.
	"arm64": {"qemu-system-aarch64", "qemu-system-arm", "virt", "max,pauth-impdef=on", "ttyAMA0", "tpm-tis-device"},
}

func platformOf(arch string) (platform, error) {
	p, ok := platforms[arch]
	if !ok {
		return platform{}, fmt.Errorf("no machine for architecture %q; want %s", arch, strings.Join(Arches(), " or "))
	}
	return p, nil
}

// Program returns the name of the QEMU program that runs the VM.
func (v VM) Program() (string, error) {
	p, err := platformOf(v.Arch)
	return p.system, err
}

// Console returns the name that the guest's kernel has for the first serial port, for console=.
func (v VM) Console() (string, error) {
	p, err := platformOf(v.Arch)
	return p.console, err
}

// Arches lists the architectures that a VM may have, as Go names them.
func Arches() []string { return slices.Sorted(maps.Keys(platforms)) }

// Args returns the arguments for Program, without those that say where the serial console goes. It reads nothing but v, so
// the same VM has the same command line everywhere. All problems of v are reported at once.
func (v VM) Args() ([]string, error) {
	p, err := platformOf(v.Arch)
	if err != nil {
		return nil, err
	}
	accel, err := v.accelArgs(p)
	if err != nil {
		return nil, err
	}
	kernel, kernelErr := v.kernelArgs()
	disks, diskErr := diskArgs(v.Disks)
	if err := errors.Join(v.checkSizes(), CheckDisplay(v.Display), kernelErr, diskErr); err != nil {
		return nil, err
	}
	args := []string{"-nodefaults"}
	args = append(args, accel...)
	args = append(args,
		"-smp", strconv.Itoa(orDefault(v.CPUs, defaultCPUs)),
		"-m", strconv.Itoa(orDefault(v.MemoryMiB, defaultMemoryMiB)),
		"-display", orDefault(v.Display, "none"))
	if v.UUID != "" {
		args = append(args, "-uuid", v.UUID)
	}
	if v.NoReboot {
		args = append(args, "-no-reboot")
	}
	args = append(args, v.Firmware.args()...)
	args = append(args, kernel...)
	args = append(args, disks...)
	// The root bus of a PCI Express machine takes no device while it runs; a root port does.
	for i := range v.Slots {
		args = append(args, "-device", fmt.Sprintf("pcie-root-port,id=slot%d,chassis=%d", i, i+1))
	}
	if v.Net {
		args = append(args, "-nic", "user,model=virtio-net-pci")
	}
	for _, nic := range v.NICs {
		args = append(args, "-nic", nic)
	}
	if v.Display != "" && v.Display != "none" {
		args = append(args, "-device", "virtio-gpu-pci", "-device", "qemu-xhci,id=input", "-device", "usb-kbd,bus=input.0")
	}
	if v.TPM != "" {
		args = append(args, "-chardev", "socket,id=tpm,path="+escape(v.TPM), "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", p.tpm+",tpmdev=tpm0")
	}
	if v.QMP != "" {
		args = append(args, "-qmp", "unix:"+escape(v.QMP)+",server=on,wait=off")
	}
	return args, nil
}

func (v VM) checkSizes() error {
	var errs []error
	if v.MemoryMiB < 0 {
		errs = append(errs, fmt.Errorf("memory of %d MiB: want a positive number", v.MemoryMiB))
	}
	if v.CPUs < 0 || v.CPUs > MaxCPUs {
		errs = append(errs, fmt.Errorf("%d CPUs: want 1 to %d", v.CPUs, MaxCPUs))
	}
	return errors.Join(errs...)
}

// CheckDisplay reports whether a value of -display names a window that some QEMU has; whether this one has it, it tells itself.
func CheckDisplay(s string) error {
	kind, _, _ := strings.Cut(s, ",")
	if kind == "" || strings.HasPrefix(kind, "vnc=") || slices.Contains(displays, kind) {
		return nil
	}
	return fmt.Errorf("display %q: want one of %s, or vnc=ADDRESS", s, strings.Join(displays, ", "))
}

func (v VM) accelArgs(p platform) ([]string, error) {
	machine := v.Firmware.machine(orDefault(v.Machine, p.machine))
	switch v.Accel {
	case TCG, "":
		return []string{"-machine", machine, "-accel", "tcg", "-cpu", p.cpu}, nil
	case KVM:
		return []string{"-machine", machine, "-accel", "kvm", "-cpu", "host"}, nil
	}
	return nil, fmt.Errorf("accelerator %q: want tcg or kvm", v.Accel)
}

func (v VM) kernelArgs() ([]string, error) {
	if v.Kernel == "" {
		if v.Initrd != "" || len(v.Append) > 0 {
			return nil, errors.New("an initramfs and a kernel command line need a kernel")
		}
		return nil, nil
	}
	args := []string{"-kernel", v.Kernel}
	if v.Initrd != "" {
		args = append(args, "-initrd", v.Initrd)
	}
	if len(v.Append) > 0 {
		args = append(args, "-append", strings.Join(v.Append, " "))
	}
	return args, nil
}

// escape makes a value safe inside a comma-separated QEMU option: a comma is written twice.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }

func orDefault[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}
