package build

import (
	"context"
	"maps"
	"slices"
	"strings"

	"veneer/images"
	"veneer/initramfs/machine/probe"
)

// ISOFile is what an ISO says of itself.
type ISOFile struct {
	Label string      `json:"label"`
	UUID  string      `json:"uuid"`
	Size  int64       `json:"size"`
	Boots []string    `json:"boots"` // FirmwareUEFI, FirmwareBIOS
	Files []ISOMember `json:"files"`
}

// ISOMember is a file in an ISO.
type ISOMember struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

func (i *Inspection) readISO(file string) error {
	in, err := openISO(context.Background(), file)
	if err != nil {
		return err
	}
	defer in.f.Close()
	info, err := in.f.Stat()
	if err != nil {
		return err
	}
	content, err := probe.Sniff(in.f, info.Size())
	if err != nil {
		return err
	}
	_, uefi, err := espOfISO(file)
	if err != nil {
		return err
	}
	i.ISO = &ISOFile{Label: content.Label, UUID: content.UUID, Size: info.Size(), Boots: []string{}}
	if uefi {
		i.ISO.Boots = append(i.ISO.Boots, FirmwareUEFI)
	}
	if in.files["isolinux/isolinux.bin"] != nil {
		i.ISO.Boots = append(i.ISO.Boots, FirmwareBIOS)
	}
	for _, name := range slices.Sorted(maps.Keys(in.files)) {
		i.ISO.Files = append(i.ISO.Files, ISOMember{name, in.sizes[name]})
	}
	in.dir = storeDir
	if man, err := manifestIn(in); err == nil { // an ISO of somebody else's has none
		i.Manifest = &man
		if serial, err := images.Default(in); err == nil {
			if raw, err := readIn(in, images.DeploymentPath(serial)+"/"+images.SignatureName, images.MaxSignature); err == nil {
				if sig, err := images.ParseSignature(raw); err == nil {
					i.Signature = &SignatureFile{sig.KeyID.String(), sig.TrustedComment}
				}
			}
		}
	}
	return nil
}

func printISO(line printLine, iso ISOFile) {
	line("label", "%s", printable(iso.Label))
	line("uuid", "%s", printable(iso.UUID))
	line("size", "%s", FormatBytes(iso.Size))
	line("boots from", "%s", strings.Join(iso.Boots, ", "))
	for _, f := range iso.Files {
		line("file", "%s, %s", printable(f.Name), FormatBytes(f.Size))
	}
}
