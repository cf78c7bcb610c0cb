package disks

import (
	"errors"
	"os"

	"veneer/images/disk"
)

// Part is one partition.
type Part struct {
	Name  string // PARTLABEL
	GUID  string // PARTUUID; empty: any
	Image string // the file that becomes its content
}

// Partition writes a disk with a GPT that has a partition for each part, in order.
func Partition(file string, parts ...Part) error {
	var partitions []disk.Partition
	for _, p := range parts {
		partitions = append(partitions, disk.Partition{Name: p.Name, GUID: p.GUID, Type: disk.TypeLinux, Image: p.Image})
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(disk.Write(f, "", disk.Sector, 0, partitions...), f.Close())
}
