package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

// Partition is one partition of a disk.
type Partition struct {
	Name       string // PARTLABEL
	GUID       string // PARTUUID
	Type       string // a GUID: TypeESP, TypeLinux
	Attributes uint64
	Image      string // the file that becomes its content
}

// Types of partitions: the UEFI specification's, and of the Discoverable Partitions Specification the one that nothing takes up on its
// own (a store is no root, and is found by its label).
const (
	TypeESP   = string(gpt.EFISystemPartition)
	TypeLinux = string(gpt.LinuxFilesystem)
)

// BIOSBootable marks the partition that the boot code of an MBR starts (UEFI 2.10, table 5.8: legacy BIOS bootable).
const BIOSBootable = 1 << 2

// Sizes of a logical sector, in bytes: of nearly all disks, and of those that have no smaller ones (4Kn).
const (
	Sector      = 512
	LargeSector = 4096
)

// mib is where partitions start: each at a whole one. The last one leaves room for the backup of the table.
const mib = 1 << 20

// Write writes a disk of logical sectors of a size with a GPT that has the partitions in their order, and free bytes behind them. It takes place in file only where
// there is something but zeros. The end of the disk is that of the file: the machine moves the backup of the table when it grows.
func Write(file *os.File, guid string, sectorSize int, free int64, partitions ...Partition) error {
	sector := int64(sectorSize)
	table := &gpt.Table{LogicalSectorSize: sectorSize, PhysicalSectorSize: sectorSize, ProtectiveMBR: true, GUID: strings.ToUpper(guid)}
	at := int64(mib)
	for i, p := range partitions {
		info, err := os.Stat(p.Image)
		if err != nil {
			return fmt.Errorf("partition %d: %w", i+1, err)
		}
		if info.Size() == 0 {
			return fmt.Errorf("partition %d: %s is empty", i+1, p.Image)
		}
		size := (info.Size() + mib - 1) / mib * mib
		table.Partitions = append(table.Partitions, &gpt.Partition{Index: i + 1, Type: gpt.Type(p.Type), Name: p.Name, GUID: strings.ToUpper(p.GUID),
			Attributes: p.Attributes, Start: uint64(at / sector), End: uint64((at+size)/sector - 1)})
		at += size
	}
	size := (at+free+mib-1)/mib*mib + mib
	if err := file.Truncate(size); err != nil {
		return err
	}
	if err := table.Write(file, size); err != nil {
		return fmt.Errorf("partition table: %w", err)
	}
	for i, p := range partitions {
		if err := copyInto(file, int64(table.Partitions[i].Start)*sector, p.Image); err != nil {
			return fmt.Errorf("partition %d: %w", i+1, err)
		}
	}
	return nil
}

// copyInto copies a file to an offset and leaves holes where it holds nothing but zeros.
func copyInto(f *os.File, at int64, image string) error {
	in, err := os.Open(image)
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := CopySparse(context.Background(), f, at, in); err != nil {
		return fmt.Errorf("copy %s: %w", image, err)
	}
	return nil
}

// CopySparse copies to an offset of a file, leaves holes where there is nothing but zeros, and returns where it ended.
func CopySparse(ctx context.Context, f *os.File, at int64, in io.Reader) (end int64, err error) {
	buf, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		if err := ctx.Err(); err != nil {
			return at, err
		}
		n, err := io.ReadFull(in, buf)
		if !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := f.WriteAt(buf[:n], at); err != nil {
				return at, err
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return at, nil
		} else if err != nil {
			return at, err
		}
	}
}
