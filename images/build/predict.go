package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"veneer/images"
	"veneer/images/disk"
)

// Prediction is what registers of a TPM (PCRs, in their SHA-256 bank) hold after a boot of an output.
type Prediction struct {
	Registers []Register `json:"registers"`
	Notes     []string   `json:"notes"` // what is not predicted, and why
}

// Register is one of them.
type Register struct {
	Number int      `json:"number"`
	SHA256 string   `json:"sha256"`
	What   string   `json:"what"`   // for people: who extends it by what
	Events []string `json:"events"` // in order
}

// WriteText writes the prediction for people.
func (p Prediction) WriteText(w io.Writer) error {
	out := printer{w: w}
	for _, r := range p.Registers {
		out.line(strconv.Itoa(r.Number), "%s", r.SHA256)
		out.line("", "%s", r.What)
	}
	for _, n := range p.Notes {
		out.line("note", "%s", n)
	}
	return out.err
}

// stubRegister is the one that systemd-stub extends by the UKI, in the UAPI group's registry.
const stubRegister = 11

// Predict computes what the boot of a build output leaves in the registers. Register 11 is there once for each UKI:
// an ISO and a directory for a server have one of their own.
func Predict(ctx context.Context, dir string) (Prediction, error) {
	p := Prediction{Registers: []Register{}, Notes: []string{}}
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return p, fmt.Errorf("%s is a file: name the directory of the build output, where the manifest is too", dir)
	}
	text, err := readSmall(filepath.Join(dir, images.ManifestName), images.MaxManifest)
	if err != nil {
		return p, err
	}
	man, err := images.ParseManifest(text)
	if err != nil {
		return p, fmt.Errorf("%s: %w", dir, err)
	}
	f, size, err := openRegular(filepath.Join(dir, initramfsFile))
	if err != nil {
		return p, err
	}
	defer f.Close()
	initramfs, err := ReadInitramfs(f, size)
	if err != nil {
		return p, err
	}
	program, err := outputUKI(ctx, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	isos, err := ukiOfISO(ctx, filepath.Join(dir, outISO))
	if err != nil {
		return p, err
	}
	net, err := readSmall(filepath.Join(dir, outNetboot, outUKI), maxUKI)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	for _, u := range []struct {
		name    string
		program []byte
	}{{outUKI + " or of the disk", program}, {outISO, isos}, {outNetboot + "/" + outUKI, net}} {
		if u.program == nil {
			continue
		}
		var r Register
		sections, _, err := disk.Sections(u.program)
		if err == nil {
			r, err = predictUKI(sections)
		}
		if err != nil {
			return p, fmt.Errorf("%s, the UKI %s: %w", dir, u.name, err)
		}
		if isos != nil || net != nil {
			r.What += " of " + u.name
		}
		p.Registers = append(p.Registers, r)
	}
	if len(p.Registers) > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("register %d: as the initramfs finds it; systemd extends it by the phases of the boot where the base has systemd-pcrphase", stubRegister))
	} else {
		p.Notes = append(p.Notes, fmt.Sprintf("register %d: there is no UKI in it; name uki among the outputs", stubRegister))
	}
	if initramfs.TPM == "none" {
		p.Notes = append(p.Notes, fmt.Sprintf("register %d: the initramfs asks no TPM; declare trust.tpm", images.TPMRegister))
		if len(p.Registers) == 0 {
			return p, fmt.Errorf("%s: nothing can be predicted: %s", dir, strings.Join(p.Notes, "; "))
		}
		return p, nil
	}
	sum := sha256.Sum256(text)
	p.Registers = append(p.Registers, predict(images.TPMRegister, "by the init, before the images are used: the manifest, and the images",
		measuredTexts(images.Measurements(hex.EncodeToString(sum[:]), man.Images))))
	p.Notes = append(p.Notes, fmt.Sprintf("register %d: if systemd-stub finds no extension images for the initramfs on the EFI system partition, which it would measure there first", images.TPMRegister))
	return p, nil
}

// ukiOfISO returns the UKI of an ISO, which names another store than that of a disk; nil where there is none.
func ukiOfISO(ctx context.Context, file string) ([]byte, error) {
	if !exists(file) {
		return nil, nil
	}
	esp, ok, err := espOfISO(file)
	if err != nil || !ok {
		return nil, err
	}
	return diskImage{path: file, esp: esp}.uki(ctx)
}

// measured is what a register is extended by.
type measured struct {
	name string
	data []byte
}

func measuredTexts(events []string) []measured {
	var all []measured
	for _, e := range events {
		all = append(all, measured{e, []byte(e)})
	}
	return all
}

// predict extends a register that begins as zeros (TPM 2.0 Library, Part 1, "Extend of a PCR").
func predict(number int, what string, events []measured) Register {
	r := Register{Number: number, What: what, Events: []string{}}
	var value [sha256.Size]byte
	for _, e := range events {
		digest := sha256.Sum256(e.data)
		value = sha256.Sum256(append(value[:], digest[:]...))
		r.Events = append(r.Events, e.name)
	}
	r.SHA256 = hex.EncodeToString(value[:])
	return r
}

// measuredSections are the sections that systemd-stub measures, in its order (src/fundamental/uki.h, tpm-pcr.h before), and the
// first version that measures each. Of each its name with a NUL is one event, its content the next.
var measuredSections = []struct {
	name  string
	since int
}{{".linux", 252}, {".osrel", 252}, {".cmdline", 252}, {".initrd", 252}, {".ucode", 256}, {".splash", 252}, {".dtb", 252}, {".uname", 254}, {".sbat", 254},
	{".pcrpkey", 252}}

// chosenSections are those that later versions choose among at boot, so that nothing can be said of a UKI with one.
var chosenSections = []string{".profile", ".dtbauto", ".hwids", ".efifw"}

var stubVersion = regexp.MustCompile(`LoaderInfo: systemd-stub ([0-9]+)`)

// predictUKI says what the stub measures of a UKI with these sections.
func predictUKI(sections []disk.Section) (Register, error) {
	content := map[string][]byte{}
	for _, s := range sections {
		if _, twice := content[s.Name]; twice {
			return Register{}, fmt.Errorf("it has two sections %s", s.Name)
		}
		content[s.Name] = s.Content
	}
	for _, name := range chosenSections {
		if _, there := content[name]; there {
			return Register{}, fmt.Errorf("it has a section %s, of which the machine decides what is measured", name)
		}
	}
	match := stubVersion.FindSubmatch(content[".sdmagic"])
	if match == nil {
		return Register{}, errors.New("its stub is not systemd's, which alone is known to measure it")
	}
	version, err := strconv.Atoi(string(match[1]))
	if err != nil || version < 252 || version == 253 {
		return Register{}, fmt.Errorf("its stub is systemd's %s; what those of 252, and of 254 and newer measure is known", match[1])
	}
	var events []measured
	for _, s := range measuredSections {
		if data, there := content[s.name]; there && version >= s.since {
			events = append(events, measured{s.name, append([]byte(s.name), 0)}, measured{"content of " + s.name, data})
		}
	}
	return predict(stubRegister, fmt.Sprintf("by systemd-stub %d: the sections of the UKI", version), events), nil
}
