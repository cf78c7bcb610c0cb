package disks

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

// GPT says how file systems become a partitioned disk.
type GPT struct {
	GUID       string // of the disk; empty: a fixed one
	Sector     int    // bytes of a logical sector; 512 when 0
	PowerOfTwo bool   // as large as an SD card in QEMU has to be
	Parts      []Part
}

// Part is one partition.
type Part struct {
	Name  string // PARTLABEL
	GUID  string // PARTUUID; empty: fixed by the place in the table
	Image string // the file that becomes its content
}

// Each partition starts at a whole MiB, and the last one leaves room for the backup of the table.
const (
	align  = mib
	margin = mib
)

// GPT returns a disk with a partition for each part, in order.
func (c Cache) GPT(g GPT) (string, error) {
	if g.Sector == 0 {
		g.Sector = 512
	}
	if g.GUID == "" {
		g.GUID = "4D0D97A1-7B0C-4F1E-9E57-5E4EE7000000"
	}
	images := make([]string, len(g.Parts))
	for i := range g.Parts {
		images[i] = g.Parts[i].Image
	}
	recipe := g
	recipe.Parts = nil
	for _, p := range g.Parts {
		recipe.Parts = append(recipe.Parts, Part{Name: p.Name, GUID: p.GUID}) // the content counts, not where it lies
	}
	return c.keep("gpt", recipe, images, g.write)
}

func (g GPT) write(file string) error {
	table := &gpt.Table{LogicalSectorSize: g.Sector, PhysicalSectorSize: g.Sector, ProtectiveMBR: true, GUID: strings.ToUpper(g.GUID)}
	at := int64(align)
	for i, p := range g.Parts {
		info, err := os.Stat(p.Image)
		if err != nil {
			return err
		}
		if info.Size() == 0 {
			return fmt.Errorf("partition %d: %s is empty", i+1, p.Image)
		}
		size := (info.Size() + align - 1) / align * align
		guid := p.GUID
		if guid == "" {
			guid = fmt.Sprintf("4D0D97A1-7B0C-4F1E-9E57-5E4EE70000%02X", i+1)
		}
		table.Partitions = append(table.Partitions, &gpt.Partition{Index: i + 1, Type: gpt.LinuxFilesystem, Name: p.Name, GUID: strings.ToUpper(guid),
			Start: uint64(at) / uint64(g.Sector), End: uint64(at+size)/uint64(g.Sector) - 1})
		at += size
	}
	size := at + margin
	if g.PowerOfTwo {
		size = 1 << bits.Len64(uint64(size-1))
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	err = errors.Join(f.Truncate(size), table.Write(f, size))
	for i, p := range g.Parts {
		if err == nil {
			err = copyInto(f, int64(table.Partitions[i].Start)*int64(g.Sector), p.Image)
		}
	}
	return errors.Join(err, f.Close())
}

// copyInto copies a file to an offset and leaves holes where it holds nothing but zeros.
func copyInto(f *os.File, at int64, image string) error {
	in, err := os.Open(image)
	if err != nil {
		return err
	}
	defer in.Close()
	buf, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(in, buf)
		if string(buf[:n]) != string(zeros[:n]) {
			if _, err := f.WriteAt(buf[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read %s: %w", image, err)
		}
	}
}
