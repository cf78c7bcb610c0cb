package build

import (
	"bytes"
	"context"
	"strings"

	"veneer/images"
)

// DiskFile is a disk with partitions, and what lies on them.
type DiskFile struct {
	Size         int64           `json:"size"`
	Sector       int             `json:"sector"`
	FirstDamaged bool            `json:"first-table-damaged"` // the backup was read
	Partitions   []DiskPartition `json:"partitions"`
	ESP          []ESPFile       `json:"esp"`
	Store        []string        `json:"store"` // its deployments
	Default      string          `json:"default"`
}

// DiskPartition is an entry of its table.
type DiskPartition struct {
	Number int    `json:"number"`
	Name   string `json:"name"`
	Type   string `json:"type"`
	UUID   string `json:"uuid"`
	Start  int64  `json:"start"`
	Size   int64  `json:"size"`
}

// ESPFile is a file on its EFI system partition.
type ESPFile struct {
	Path string   `json:"path"`
	Size int64    `json:"size"`
	UKI  *UKIFile `json:"uki,omitempty"`
}

func (i *Inspection) readDisk(path string) error {
	ctx := context.Background()
	raw, done, err := rawDisk(ctx, path)
	if err != nil {
		return err
	}
	defer done()
	d, err := openDisk(raw)
	if err != nil {
		return err
	}
	i.Disk = &DiskFile{Size: d.size, Sector: d.sector, FirstDamaged: d.table.FirstDamaged(), Partitions: []DiskPartition{}, ESP: []ESPFile{}, Store: []string{}}
	for _, e := range d.table.Entries() {
		i.Disk.Partitions = append(i.Disk.Partitions, DiskPartition{e.Number, e.Name, e.Type, e.UUID, e.Start, e.Size})
	}
	err = d.eachOnESP(ctx, func(name string, content []byte) error {
		f := ESPFile{Path: name, Size: int64(len(content))}
		if isUKI(content[:min(len(content), 4096)]) {
			if u, err := readUKI(bytes.NewReader(content)); err == nil {
				f.UKI = &u
			}
		}
		i.Disk.ESP = append(i.Disk.ESP, f)
		return nil
	})
	if err != nil {
		return err
	}
	in, err := openExt4(ctx, raw, d.store.Start)
	if err != nil {
		return err
	}
	defer in.f.Close()
	if err := in.enterStore(); err != nil {
		return err
	}
	serials, _, err := images.Deployments(in)
	if err != nil {
		return err
	}
	for _, serial := range serials {
		what := serial
		if text, _, err := images.ReadDeployment(in, serial); err == nil {
			if man, err := images.ParseManifest(text); err == nil {
				what += ": " + man.Name + " " + man.Version
			}
		}
		i.Disk.Store = append(i.Disk.Store, what)
	}
	i.Disk.Default, err = images.Default(in)
	return err
}

func printDisk(line printLine, d DiskFile) {
	line("disk", "%s, sectors of %d", FormatBytes(d.Size), d.Sector)
	if d.FirstDamaged {
		line("table", "the first copy is damaged; this is the backup")
	}
	for _, p := range d.Partitions {
		line("partition", "%d %s, %s from %s on, type %s, UUID %s", p.Number, printable(p.Name), FormatBytes(p.Size), FormatBytes(p.Start), p.Type, p.UUID)
	}
	for _, f := range d.ESP {
		what := ""
		if f.UKI != nil {
			what = ", UKI of " + printable(parseOSRelease(f.UKI.OSRelease)["PRETTY_NAME"]) + ", kernel " + printable(f.UKI.Release)
			if f.UKI.Signed {
				what += ", signed"
			}
			what += ", command line: " + strings.TrimSpace(printable(f.UKI.Cmdline))
		}
		line("esp", "%s, %s%s", printable(f.Path), FormatBytes(f.Size), what)
	}
	for _, s := range d.Store {
		line("deployment", "%s", printable(s))
	}
	line("default", "deployment %s", printable(d.Default))
}
