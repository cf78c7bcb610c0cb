package disk

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// UKI is what a unified kernel image is made of, as systemd-stub reads it (systemd-stub(7); the UAPI group's "Unified Kernel Image").
type UKI struct {
	Stub      []byte // systemd's, for the architecture: linuxx64.efi.stub
	OSRelease []byte // what boot menus show: NAME, VERSION_ID, ID
	Cmdline   string
	Uname     string // the kernel's release
	Splash    []byte // a BMP; may be nil
	Initramfs []byte
	Kernel    []byte // an EFI program too; a signature of its own is left as it is, and the stub's counts
}

// maxCmdline is COMMAND_LINE_SIZE of amd64 and arm64, with the NUL.
const maxCmdline = 2048

// Image puts it together. The kernel is the last section: one that unpacks itself in place may write behind its end.
func (u UKI) Image() ([]byte, error) {
	switch {
	case len(u.Kernel) == 0 || len(u.Initramfs) == 0:
		return nil, errors.New("a UKI needs a kernel and an initramfs")
	case len(u.Cmdline) >= maxCmdline:
		return nil, fmt.Errorf("command line of %d bytes: the kernel takes %d", len(u.Cmdline), maxCmdline-1)
	case strings.ContainsFunc(u.Cmdline, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return nil, fmt.Errorf("command line %q holds what is no text", u.Cmdline)
	case u.Splash != nil && !bytes.HasPrefix(u.Splash, []byte("BM")):
		return nil, errors.New("the splash is no BMP")
	}
	if !bytes.HasPrefix(u.Kernel, []byte("MZ")) {
		return nil, errors.New("the kernel is no EFI program: it was built without CONFIG_EFI_STUB")
	}
	sections := []Section{{".osrel", u.OSRelease}, {".cmdline", []byte(u.Cmdline)}, {".uname", []byte(u.Uname)}}
	if u.Splash != nil {
		sections = append(sections, Section{".splash", u.Splash})
	}
	sections = append(sections, Section{".initrd", u.Initramfs}, Section{".linux", u.Kernel})
	image, err := AddSections(u.Stub, sections...)
	if err != nil {
		return nil, fmt.Errorf("stub: %w", err)
	}
	return image, nil
}
