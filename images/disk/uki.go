package disk

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// UKI is what a unified kernel image is made of, as systemd-stub reads it (systemd-stub(7); the UAPI group's "Unified Kernel Image").
type UKI struct {
	Stub      []byte // systemd's, for the architecture: linuxx64.efi.stub
	OSRelease []byte // what boot menus show: NAME, VERSION_ID, ID
	Cmdline   string
	Uname     string // the kernel's release
	Splash    []byte // a BMP; may be nil
	SBAT      []byte // lines behind those of the stub and of a UKI; may be nil
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
	sbat, err := u.sbat()
	if err != nil {
		return nil, err
	}
	stub, err := withoutSection(u.Stub, ".sbat")
	if err != nil {
		return nil, fmt.Errorf("stub: %w", err)
	}
	sections = slices.Insert(sections, 0, Section{".sbat", sbat})
	image, err := AddSections(stub, sections...)
	if err != nil {
		return nil, fmt.Errorf("stub: %w", err)
	}
	return image, nil
}

// Generations of a UKI for shim's revocations (shim, SBAT.md; UAPI group, "Unified Kernel Image"). The first line is of the format, and
// that of any UKI is what ukify writes.
const (
	sbatHead = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n"
	sbatUKI  = "uki,1,UKI,uki,1,https://uapi-group.org/specifications/specs/unified_kernel_image/\n"
)

// sbat joins the lines of stub, kernel, UKI and owner. The section takes the place of the stub's, which has no room for more lines: two
// would make shim refuse the program.
func (u UKI) sbat() ([]byte, error) {
	text := sbatHead
	has := map[string]bool{}
	take := func(lines []byte) error {
		for line := range strings.Lines(strings.TrimRight(string(lines), "\x00")) {
			line = strings.TrimSpace(line)
			name, _, _ := strings.Cut(line, ",")
			if line == "" || name == "sbat" || has[line] {
				continue
			}
			if strings.Count(line, ",") < 2 || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
				return fmt.Errorf("SBAT line %q: want COMPONENT,GENERATION,VENDOR,PACKAGE,VERSION,URL", line)
			}
			has[line] = true
			text += line + "\n"
		}
		return nil
	}
	for _, program := range [][]byte{u.Stub, u.Kernel} {
		sections, _, err := Sections(program)
		if err != nil {
			continue // of the stub AddSections tells; a kernel of another form has none
		}
		for _, s := range sections {
			if s.Name != ".sbat" {
				continue
			}
			if err := take(s.Content); err != nil {
				return nil, err
			}
		}
	}
	if err := errors.Join(take([]byte(sbatUKI)), take(u.SBAT)); err != nil {
		return nil, err
	}
	return []byte(text), nil
}
