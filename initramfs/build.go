package initramfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/u-root/mkuimage/cpio"
)

// Spec says what an initramfs is made of. The zero value of each field but Kernel and Keys is a default.
type Spec struct {
	Kernel *Kernel           // the kernel that will boot it; its architecture is that of the programs
	Policy Policy            // which modules
	Need   []string          // modules without which the images of this build cannot be mounted: squashfs, erofs
	Keys   map[string][]byte // name -> public key in minisign's two-line form

	Defaults      string   // in the syntax of the kernel command line, which overrides them
	AllowUnsigned bool     // PID 1 boots a set without a signature
	Pins          []string // sha256:DIGEST of each image of others that PID 1 may boot
	RescueShell   bool     // a shell and a few commands
	TPM           string   // wanted, required: what a boot asks of a TPM 2.0; "" and none for nothing

	Level   int     // of the modules; 0 is DefaultLevel
	Variant Variant // of the prebuilt PID 1; "" is Local
	Init    []byte  // PID 1; nil is the prebuilt one
}

// DefaultLevel is zstd's best that unpacks in the memory that the kernel has for it. It takes seconds, beside the minute that the
// images take on another core. Measured on the generic policy: docs/initramfs.md.
const DefaultLevel = 19

// Report is what came of a Spec.
type Report struct {
	Raw        int64          `json:"raw"`        // bytes of the archive
	Compressed int64          `json:"compressed"` // bytes written
	Modules    []ModuleReport `json:"modules"`    // in the order of the index
	Builtin    []string       `json:"builtin"`    // wanted, and in the kernel already
	Missing    []Missing      `json:"missing"`    // wanted where there are any, and not there
}

// ModuleReport is a module in the archive, and why it is there.
type ModuleReport struct {
	Name string `json:"name"`
	Size int64  `json:"size"` // bytes, unpacked
	Why  string `json:"why"`
}

// Build writes an initramfs: newc cpio archives, each compressed with zstd, one behind the other. The kernel unpacks them as one
// (Documentation/driver-api/early-userspace/buffer-format.rst). The programs come first, as they were packed when they were
// built; what depends on this Spec comes last. The same Spec gives the same bytes: all times are 1970, all owners root. What w
// holds after an error is of no use.
func Build(ctx context.Context, w io.Writer, s Spec) (Report, error) {
	report, err := build(ctx, w, s)
	if err != nil {
		return Report{}, fmt.Errorf("initramfs: %w", err)
	}
	return report, nil
}

func build(ctx context.Context, w io.Writer, s Spec) (Report, error) {
	if s.Kernel == nil {
		return Report{}, errors.New("no kernel")
	}
	if len(s.Keys) == 0 && !s.AllowUnsigned {
		return Report{}, errors.New("no key to trust, and unsigned sets not allowed, so nothing could ever boot: make a key with 'veneer keygen'")
	}
	s.Policy.tpm = s.asksTPM()
	chosen, err := choose(s.Kernel.modules, s.Kernel.Arch, s.Policy, s.Need)
	if err != nil {
		return Report{}, err
	}
	records, err := s.records(ctx, chosen)
	if err != nil {
		return Report{}, err
	}
	programs, err := s.programs()
	if err != nil {
		return Report{}, err
	}
	report := chosen.report()
	for _, p := range programs {
		if _, err := w.Write(p.Packed); err != nil {
			return Report{}, err
		}
		report.Raw += p.Raw
		report.Compressed += int64(len(p.Packed))
	}
	own, err := pack(ctx, w, s.level(), records)
	report.Raw += own.raw
	report.Compressed += own.packed
	return report, err
}

func (s Spec) asksTPM() bool { return s.TPM != "" && s.TPM != "none" }

func (s Spec) level() int { return cmp.Or(s.Level, DefaultLevel) }

// programs returns the packed archives of PID 1 and the rescue tools.
func (s Spec) programs() ([]Packed, error) {
	var programs []Packed
	if s.Init == nil {
		init, err := prebuiltArchive(s.Kernel.Arch, cmp.Or(s.Variant, Local).Archive())
		if err != nil {
			return nil, err
		}
		programs = append(programs, init)
	}
	if s.RescueShell {
		rescue, err := prebuiltArchive(s.Kernel.Arch, "rescue.cpio")
		if err != nil {
			return nil, err
		}
		programs = append(programs, rescue)
	}
	return programs, nil
}

// records lists the files that depend on the Spec, in the order in which the kernel unpacks them.
func (s Spec) records(ctx context.Context, chosen *selection) ([]cpio.Record, error) {
	records := []cpio.Record{
		// Before it has mounted devtmpfs, PID 1 has this node and no other.
		cpio.CharDev("dev/console", 0o600, 5, 1),
		file("etc/veneer/cmdline", 0o644, []byte(strings.TrimSpace(s.Defaults)+"\n")),
		file("etc/veneer/variant", 0o644, []byte(cmp.Or(s.Variant, Local)+"\n")),
		file("lib/modules/index", 0o644, chosen.index(s.Kernel.Release)),
	}
	if s.Init != nil {
		records = append(records, file("init", 0o755, s.Init))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Keys)) {
		if name == "" || strings.ContainsAny(name, "/\x00") {
			return nil, fmt.Errorf("key name %q: want a file name", name)
		}
		records = append(records, file("etc/veneer/keys/"+name+".pub", 0o644, s.Keys[name]))
	}
	for _, pin := range s.Pins {
		if err := CheckPin(pin); err != nil {
			return nil, err
		}
	}
	if len(s.Pins) > 0 {
		records = append(records, file("etc/veneer/pins", 0o644, []byte(strings.Join(s.Pins, "\n")+"\n")))
	}
	if s.AllowUnsigned {
		records = append(records, file("etc/veneer/allow-unsigned", 0o644, nil))
	}
	if s.asksTPM() {
		records = append(records, file("etc/veneer/tpm", 0o644, []byte(s.TPM+"\n")))
	}
	hand, reserve := chosen.split(s.Need)
	// The large ones first, next to what resembles them: that packs a little better. PID 1 goes by the index.
	bySize := slices.Clone(hand)
	slices.SortStableFunc(bySize, func(a, b *module) int { return len(b.data) - len(a.data) })
	for _, m := range bySize {
		records = append(records, file("lib/modules/"+moduleName(m.path)+".ko", 0o644, m.data))
	}
	if len(reserve) > 0 {
		image, err := packReserve(ctx, s.level(), reserve)
		if err != nil {
			return nil, err
		}
		records = append(records, file(reserveImage, 0o644, image))
	}
	return records, nil
}

func (s *selection) report() Report {
	r := Report{Builtin: slices.Sorted(maps.Keys(s.builtin)), Missing: s.missing}
	for _, m := range s.order {
		name := moduleName(m.path)
		r.Modules = append(r.Modules, ModuleReport{Name: name, Size: int64(len(m.data)), Why: s.why[name]})
	}
	return r
}
