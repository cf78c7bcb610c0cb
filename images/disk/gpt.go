package disk

import (
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

// Of a partition table. Each partition starts at a whole MiB, and the last one leaves room for the backup of the table.
const (
	sector = 512
	mib    = 1 << 20
)

// Write writes a disk with a GPT that has the partitions in their order, and free bytes behind them. It takes place in file only where
// there is something but zeros. The end of the disk is that of the file: the machine moves the backup of the table when it grows.
func Write(file *os.File, guid string, free int64, partitions ...Partition) error {
	table := &gpt.Table{LogicalSectorSize: sector, PhysicalSectorSize: sector, ProtectiveMBR: true, GUID: strings.ToUpper(guid)}
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
