package device

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/initramfs/machine/probe"
)

// Target is a block device, or with File a regular file, that an image may be written to.
type Target struct {
	Path      string   `json:"path"`
	Name      string   `json:"name"` // the kernel's: sdb
	Disk      string   `json:"disk"` // that it is a partition of; empty for a whole one
	Model     string   `json:"model"`
	Serial    string   `json:"serial"`
	Transport string   `json:"transport"` // usb, sata, nvme, mmc, virtio, loop ...; empty where the kernel does not say
	Size      int64    `json:"size"`
	Sector    int      `json:"sector"` // logical, bytes
	Removable bool     `json:"removable"`
	ReadOnly  bool     `json:"read-only"`
	Holds     []Part   `json:"holds"`  // what is on it now
	InUse     []string `json:"in-use"` // why it may not be written to
	File      bool     `json:"file"`

	number  uint64
	backing []fileID // files that it keeps its bytes in
}

// Part is what a device or one of its partitions holds.
type Part struct {
	Name  string `json:"name"` // the kernel's
	Size  int64  `json:"size"`
	Type  string `json:"type"` // as blkid names it; empty where nothing is known
	Label string `json:"label"`
	Table string `json:"partition"` // its name in the table
}

const sectorSize = 512 // the unit of sysfs

// sysfs is where the kernel tells of devices; another one in tests.
type system struct{ sys, mounts, swaps string }

var host = system{"/sys", "/proc/self/mountinfo", "/proc/swaps"}

// Look looks at a device. It opens it for reading only.
func Look(path string) (Target, error) { return host.look(path) }

func (s system) look(path string) (Target, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Target{}, &os.PathError{Op: "look at", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Target{}, fmt.Errorf("%s is no block device: name one, such as /dev/sdb, or write to a file with --file", path)
	}
	dir, err := filepath.EvalSymlinks(filepath.Join(s.sys, "dev/block", fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))))
	if err != nil {
		return Target{}, fmt.Errorf("%s: the kernel knows no such device: %w", path, err)
	}
	t := Target{Path: path, Name: filepath.Base(dir), number: st.Rdev, ReadOnly: line(dir, "ro") == "1", Size: number(dir, "size") * sectorSize, Holds: []Part{}}
	disk := dir
	if line(dir, "partition") != "" {
		disk = filepath.Dir(dir)
		t.Disk = filepath.Base(disk)
	}
	t.Removable = line(disk, "removable") == "1"
	t.Sector = int(max(sectorSize, number(disk, "queue/logical_block_size")))
	t.Model = line(disk, "device/model")
	if vendor := line(disk, "device/vendor"); !strings.HasPrefix(vendor, "0x") { // the number of one on a bus
		t.Model = strings.TrimSpace(vendor + " " + t.Model)
	}
	if t.Model == "" {
		t.Model = line(disk, "device/name") // of MMC
	}
	t.Serial = line(disk, "device/serial")
	if t.Serial == "" {
		t.Serial = line(disk, "serial")
	}
	t.Transport = transport(disk)
	t.Holds, t.backing = s.holds(dir, t), s.backing(dir)
	t.InUse, err = s.uses(dir)
	return t, err
}

// transport is how a disk is attached, from the way that leads to it.
func transport(disk string) string {
	for _, known := range []struct{ in, name string }{{"/usb", "usb"}, {"/nvme", "nvme"}, {"/mmc", "mmc"}, {"/ata", "sata"}, {"/virtio", "virtio"}, {"/virtual/block/loop", "loop"}, {"/virtual/", "virtual"}} {
		if strings.Contains(disk, known.in) {
			return known.name
		}
	}
	return ""
}

// holds tells what is on a device and on its partitions.
func (s system) holds(dir string, t Target) []Part {
	var list []Part
	look := func(dir, path string) {
		p := Part{Name: filepath.Base(dir), Size: number(dir, "size") * sectorSize}
		for _, v := range strings.Split(line(dir, "uevent"), "\n") {
			if name, ok := strings.CutPrefix(v, "PARTNAME="); ok {
				p.Table = name
			}
		}
		if f, err := os.Open(path); err == nil {
			if c, err := probe.Sniff(f, p.Size); err == nil {
				p.Type, p.Label = c.Type, c.Label
			} else {
				p.Type = "what cannot be read or told: " + err.Error()
			}
			_ = f.Close() // it was only read
		}
		list = append(list, p)
	}
	look(dir, t.Path)
	for _, part := range partitions(dir) {
		look(part, filepath.Join("/dev", filepath.Base(part)))
	}
	return list
}

// partitions are the directories of the partitions of a disk.
func partitions(dir string) []string {
	files, _ := filepath.Glob(filepath.Join(dir, "*/partition"))
	for i := range files {
		files[i] = filepath.Dir(files[i])
	}
	slices.Sort(files)
	return files
}

// uses lists what the kernel does with a device, its partitions, and what is stacked on them (dm, md). A use that it does not tell of,
// such as that of the second device of a btrfs, the open with O_EXCL meets.
func (s system) uses(dir string) (uses []string, err error) {
	on := map[string]string{} // number -> name
	var walk func(dir string)
	walk = func(dir string) {
		dev := line(dir, "dev")
		if _, seen := on[dev]; dev == "" || seen {
			return
		}
		on[dev] = filepath.Base(dir)
		for _, p := range partitions(dir) {
			walk(p)
		}
		holders, _ := filepath.Glob(filepath.Join(dir, "holders/*"))
		for _, h := range holders {
			target, err := filepath.EvalSymlinks(h)
			if err != nil {
				continue // it went
			}
			name := filepath.Base(target)
			if mapped := line(target, "dm/name"); mapped != "" {
				name += " (" + mapped + ")"
			}
			uses = append(uses, fmt.Sprintf("%s is part of %s", filepath.Base(dir), name))
			walk(target)
		}
	}
	walk(dir)
	mounts, err := s.mounted(on)
	if err != nil {
		return nil, err
	}
	swaps, err := s.swapped(on)
	return append(append(uses, mounts...), swaps...), err
}

// mounted lists the mounts of devices by their numbers. A file system of several devices has a number of its own: there the source counts.
func (s system) mounted(on map[string]string) ([]string, error) {
	f, err := os.Open(s.mounts)
	if err != nil {
		return nil, fmt.Errorf("what is mounted: %w", err)
	}
	defer f.Close()
	var list []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		field := strings.Fields(lines.Text())
		sep := slices.Index(field, "-")
		if len(field) < 5 || sep < 0 || len(field) < sep+3 {
			continue
		}
		name, ok := on[field[2]]
		if source := field[sep+2]; !ok && strings.HasPrefix(source, "/dev/") {
			name, ok = on[numberOf(source)]
		}
		if !ok {
			continue
		}
		at := unescape(field[4])
		if at == "/" || strings.HasPrefix(at, "/run/initramfs/veneer/") {
			list = append(list, fmt.Sprintf("the running system is on %s, mounted on %s", name, at))
		} else {
			list = append(list, fmt.Sprintf("%s is mounted on %s: umount %s", name, at, at))
		}
	}
	return list, lines.Err()
}

func (s system) swapped(on map[string]string) ([]string, error) {
	f, err := os.Open(s.swaps)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // a kernel without swap
	}
	if err != nil {
		return nil, fmt.Errorf("what is swapped to: %w", err)
	}
	defer f.Close()
	var list []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		path, _, _ := strings.Cut(lines.Text(), " ")
		if name, ok := on[numberOf(unescape(path))]; ok {
			list = append(list, fmt.Sprintf("%s is swap: swapoff %s", name, path))
		}
	}
	return list, lines.Err()
}

// numberOf is the number of a block device, "" for what is none.
func numberOf(path string) string {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return ""
	}
	return fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
}

// unescape reads what the kernel writes for white space in a path: \040.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// line is a file of sysfs, "" where it is not there.
func line(dir, name string) string {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, 4096))
	return strings.TrimSpace(string(text))
}

func number(dir, name string) int64 {
	n, _ := strconv.ParseInt(line(dir, name), 10, 64)
	return n
}
