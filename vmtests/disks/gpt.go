package disks

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

// Part is one partition.
type Part struct {
	Name  string // PARTLABEL
	GUID  string // PARTUUID; empty: any
	Image string // the file that becomes its content
}

// Of a partition table. Each partition starts at a whole MiB, and the last one leaves room for the backup of the table.
const (
	sector = 512
	align  = mib
	margin = mib
)

// Partition writes a disk with a GPT that has a partition for each part, in order.
func Partition(file string, parts ...Part) error {
	table := &gpt.Table{LogicalSectorSize: sector, PhysicalSectorSize: sector, ProtectiveMBR: true}
	at := int64(align)
	for i, p := range parts {
		info, err := os.Stat(p.Image)
		if err != nil {
			return fmt.Errorf("partition %d: %w", i+1, err)
		}
		if info.Size() == 0 {
			return fmt.Errorf("partition %d: %s is empty", i+1, p.Image)
		}
		size := (info.Size() + align - 1) / align * align
		table.Partitions = append(table.Partitions, &gpt.Partition{Index: i + 1, Type: gpt.LinuxFilesystem, Name: p.Name, GUID: strings.ToUpper(p.GUID),
			Start: uint64(at / sector), End: uint64((at+size)/sector - 1)})
		at += size
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	err = errors.Join(f.Truncate(at+margin), table.Write(f, at+margin))
	for i, p := range parts {
		if err == nil {
			err = copyInto(f, int64(table.Partitions[i].Start)*sector, p.Image)
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
