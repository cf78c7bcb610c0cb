package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"veneer/images/disk"
)

// UKIFile is a unified kernel image.
type UKIFile struct {
	Architecture string       `json:"architecture"`
	Cmdline      string       `json:"cmdline"`
	Release      string       `json:"release"` // of the kernel
	OSRelease    string       `json:"os-release"`
	SBAT         string       `json:"sbat"`
	Signed       bool         `json:"signed"` // there is a signature, which was not checked
	Sections     []UKISection `json:"sections"`
}

// UKISection is one part of it.
type UKISection struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// maxUKI bounds what is read of one.
const maxUKI = 1 << 30

// isUKI tells a UKI from other EFI programs, such as a kernel, by the names of its sections.
func isUKI(head []byte) bool {
	return bytes.HasPrefix(head, []byte("MZ")) && bytes.Contains(head, []byte(".linux\x00\x00")) && bytes.Contains(head, []byte(".initrd\x00"))
}

// readUKI takes one apart.
func readUKI(r io.Reader) (u UKIFile, err error) {
	program, err := io.ReadAll(io.LimitReader(r, maxUKI+1))
	if err != nil {
		return u, err
	}
	if u.Architecture, err = disk.Architecture(program); err != nil {
		return u, err
	}
	sections, signed, err := disk.Sections(program)
	if err != nil {
		return u, err
	}
	u.Signed = signed
	for _, s := range sections {
		switch s.Name {
		case ".cmdline":
			u.Cmdline = string(s.Content)
		case ".uname":
			u.Release = string(s.Content)
		case ".osrel":
			u.OSRelease = string(s.Content)
		case ".sbat":
			u.SBAT = string(bytes.TrimRight(s.Content, "\x00"))
		}
		sum := sha256.Sum256(s.Content)
		u.Sections = append(u.Sections, UKISection{s.Name, int64(len(s.Content)), hex.EncodeToString(sum[:])})
	}
	return u, nil
}

// section returns the one of a name; two of one name would leave open which of them counts.
func (u UKIFile) section(name string) (found UKISection, err error) {
	n := 0
	for _, s := range u.Sections {
		if s.Name == name {
			found = s
			n++
		}
	}
	if n != 1 {
		return found, fmt.Errorf("it has %d sections %s, want one", n, name)
	}
	return found, nil
}

// sectionOf is the content of a section of a UKI.
func sectionOf(program []byte, name string) ([]byte, error) {
	sections, _, err := disk.Sections(program)
	if err != nil {
		return nil, err
	}
	for _, s := range sections {
		if s.Name == name {
			return s.Content, nil
		}
	}
	return nil, fmt.Errorf("it has no section %s", name)
}

func (i *Inspection) readUKI(f *os.File) (err error) {
	u, err := readUKI(f)
	i.UKI = &u
	return err
}

func printUKI(line printLine, u UKIFile) {
	line("kernel", "%s", printable(u.Release))
	line("architecture", "%s", u.Architecture)
	line("cmdline", "%s", printable(u.Cmdline))
	signed := "no"
	if u.Signed {
		signed = "yes (not checked here: sbverify --cert CERT FILE)"
	}
	line("signed", "%s", signed)
	for _, entry := range strings.Split(strings.TrimSpace(u.SBAT), "\n") {
		line("sbat", "%s", printable(entry))
	}
	for _, s := range u.Sections {
		line("section", "%s, %s, sha256 %s", printable(s.Name), FormatBytes(s.Size), s.SHA256)
	}
}
