package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Firmware is what starts a disk in the place of the machine's own: UEFI, with the file that its variables live in.
type Firmware struct {
	Code   string // of EDK II; empty: the machine's own, a BIOS on amd64
	Vars   string // a copy of its own for each VM that is to remember something; made by Prepare
	Blank  string // variables without settings
	Secure bool   // Code enforces Secure Boot, and protects its variables with the system management mode
}

// build is one build of EDK II as a distribution has it: code, and variables that nothing was written to.
type build struct{ code, vars string }

// firmwares are the places of EDK II in Debian, by architecture; the second is the one that can enforce Secure Boot. Fedora and Arch
// have links at most of them.
var firmwares = map[string][2]build{
	"amd64": {{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"}, {"/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"}},
	"arm64": {{"/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"}, {}},
}

// firmwarePackages are the Debian packages that hold them.
var firmwarePackages = map[string]string{"amd64": "ovmf", "arm64": "qemu-efi-aarch64"}

// UEFI finds the firmware of an architecture, whose variables are to be kept in the file vars. It writes nothing.
func UEFI(arch string, secure bool, vars string) (Firmware, error) {
	at := 0
	if secure {
		at = 1
	}
	b := firmwares[arch][at]
	if b.code == "" {
		return Firmware{}, fmt.Errorf("no firmware with Secure Boot for %s", arch)
	}
	for _, file := range []string{b.code, b.vars} {
		if _, err := os.Stat(file); err != nil {
			return Firmware{}, fmt.Errorf("UEFI for %s: %w: apt-get install %s", arch, err, firmwarePackages[arch])
		}
	}
	return Firmware{Code: b.code, Vars: vars, Secure: secure, Blank: b.vars}, nil
}

// Prepare makes the variables, empty of settings, if they are not there or fresh is set: with Secure Boot that is the setup mode, in
// which the first keys that come are taken.
func (f Firmware) Prepare(fresh bool) error {
	if f.Code == "" {
		return nil
	}
	if _, err := os.Stat(f.Vars); err == nil && !fresh {
		return nil
	}
	if err := copyWhole(f.Blank, f.Vars); err != nil {
		return fmt.Errorf("variables of the firmware: %w", err)
	}
	return nil
}

// copyWhole copies a file; the copy appears whole, in the place of one that is there.
func copyWhole(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.CreateTemp(filepath.Dir(to), ".vars-")
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Rename(out.Name(), to)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(out.Name()))
	}
	return err
}

// machine is the machine type with what the firmware needs of it.
func (f Firmware) machine(name string) string {
	if f.Secure {
		name += ",smm=on"
	}
	return name
}

func (f Firmware) args() []string {
	if f.Code == "" {
		return nil
	}
	args := []string{"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + escape(f.Code), "-drive", "if=pflash,unit=1,format=raw,file=" + escape(f.Vars)}
	if f.Secure {
		args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	return args
}
