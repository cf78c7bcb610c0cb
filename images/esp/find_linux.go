package esp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/initramfs/machine/probe"
)

// Type is the type of an EFI system partition (UEFI 2.10, table 5.7).
const Type = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"

// ErrNone means that a disk has no EFI system partition, or that a directory lies on no disk with partitions.
var ErrNone = errors.New("no EFI system partition")

// OnDiskOf returns the device of the EFI system partition on the disk that a directory lies on; the first where there are several.
func OnDiskOf(dir string) (device string, err error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	at, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		return "", fmt.Errorf("%w: %s lies on no block device", ErrNone, dir)
	}
	if _, err := os.Stat(filepath.Join(at, "partition")); err != nil {
		return "", fmt.Errorf("%w: %s lies on %s, which is no partition", ErrNone, dir, filepath.Base(at))
	}
	return find(filepath.Dir(at), func(e probe.Entry) bool { return e.Type == Type })
}

// ByUUID returns the device of the partition with a GUID, on whichever disk.
func ByUUID(uuid string) (device string, err error) {
	disks, err := os.ReadDir("/sys/block")
	if err != nil {
		return "", err
	}
	for _, d := range disks {
		device, err := find(filepath.Join("/sys/block", d.Name()), func(e probe.Entry) bool { return strings.EqualFold(e.UUID, uuid) })
		if err == nil {
			return device, nil
		}
	}
	return "", fmt.Errorf("%w: no disk has a partition %s", ErrNone, uuid)
}

// find looks for a partition in the table of a disk, which is at sys in sysfs.
func find(sys string, wanted func(probe.Entry) bool) (device string, err error) {
	disk := "/dev/" + strings.ReplaceAll(filepath.Base(sys), "!", "/")
	f, err := os.Open(disk)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sectors, serr := number(sys, "size")
	sector, berr := number(sys, "queue/logical_block_size")
	if err := errors.Join(serr, berr); err != nil {
		return "", err
	}
	g, err := probe.ReadGPT(f, sectors*512, int(sector))
	if err != nil {
		return "", fmt.Errorf("%s: %w", disk, err)
	}
	for _, e := range g.Entries() {
		if wanted(e) {
			return partition(sys, e.Number)
		}
	}
	return "", fmt.Errorf("%w on %s", ErrNone, disk)
}

// partition is the device of a partition by its number.
func partition(sys string, n int) (string, error) {
	parts, err := filepath.Glob(filepath.Join(sys, "*/partition"))
	if err != nil {
		return "", err
	}
	for _, p := range parts {
		if got, err := number(filepath.Dir(p), "partition"); err == nil && got == int64(n) {
			return "/dev/" + filepath.Base(filepath.Dir(p)), nil
		}
	}
	return "", fmt.Errorf("partition %d of %s is in its table, and the kernel has no device for it: partprobe, or start again", n, filepath.Base(sys))
}

func number(dir, name string) (int64, error) {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}
