package qemu

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Bus is the way in which a disk is attached to the guest.
type Bus string

// The buses that QEMU can offer on both architectures.
const (
	VirtioBlk  Bus = "virtio-blk"
	VirtioSCSI Bus = "virtio-scsi"
	AHCI       Bus = "ahci"
	NVMe       Bus = "nvme"
	USB        Bus = "usb" // bulk-only transport
	UAS        Bus = "uas"
	SD         Bus = "sd" // the size of the disk must be a power of two
	CDROM      Bus = "cdrom"
)

// Buses lists every bus, in the order of the documentation.
func Buses() []Bus { return []Bus{VirtioBlk, VirtioSCSI, AHCI, NVMe, USB, UAS, SD, CDROM} }

// Disk is a disk image and the way in which the guest sees it.
type Disk struct {
	Path     string
	Format   string // raw or qcow2; raw when empty
	Bus      Bus    // virtio-blk when empty
	ReadOnly bool   // the guest sees a write-protected disk
	Snapshot bool   // what the guest writes is thrown away when QEMU ends
	Serial   string // serial number that the guest sees; not for USB and SD
	Sector   int    // bytes of a logical sector: 512 when zero, or 4096, which virtio-blk, SCSI, NVMe and UAS can have
	Log      string // a file, there and empty, that gets each write and flush of the guest, in the form of Linux's dm-log-writes; raw only
}

// ParseDisk reads FILE[,bus=BUS][,format=FORMAT][,serial=TEXT][,readonly][,snapshot], where a comma in a value is written
// twice. The format is looked up in the file when none is given, and what is plainly no disk is refused then.
func ParseDisk(s string) (Disk, error) {
	fields := splitCommas(s)
	d := Disk{Path: fields[0], Bus: VirtioBlk}
	if d.Path == "" {
		return Disk{}, fmt.Errorf("disk %q names no file", s)
	}
	var errs []error
	for _, field := range fields[1:] {
		key, value, _ := strings.Cut(field, "=")
		switch {
		case key == "bus":
			d.Bus = Bus(value)
		case key == "format":
			d.Format = value
		case key == "serial":
			d.Serial = value
		case field == "readonly":
			d.ReadOnly = true
		case field == "snapshot":
			d.Snapshot = true
		default:
			errs = append(errs, fmt.Errorf("disk %q: unknown option %q; want bus=, format=, serial=, readonly or snapshot", s, field))
		}
	}
	if _, err := attach(d, 0, map[string]bool{}); err != nil {
		errs = append(errs, err)
	}
	if d.Format != "" && d.Format != formatRaw && d.Format != formatQcow2 {
		errs = append(errs, fmt.Errorf("disk %q: format %q: want raw or qcow2", s, d.Format))
	}
	if err := errors.Join(errs...); err != nil {
		return Disk{}, err
	}
	head, err := readHead(d.Path)
	if err == nil && d.Format == "" {
		if d.Format, err = head.format(); err != nil {
			err = fmt.Errorf("%w; format=raw attaches it as it is", err)
		}
	}
	if err != nil {
		return Disk{}, err
	}
	return d, nil
}

// splitCommas splits at single commas and turns double ones into one.
func splitCommas(s string) []string {
	var fields []string
	var field strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != ',':
			field.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == ',':
			field.WriteByte(',')
			i++
		default:
			fields = append(fields, field.String())
			field.Reset()
		}
	}
	return append(fields, field.String())
}

// diskArgs returns the arguments for all disks, with each shared controller before its first user.
func diskArgs(disks []Disk) ([]string, error) {
	var args []string
	var errs []error
	controllers := map[string]bool{}
	for i, d := range disks {
		devices, err := attach(d, i, controllers)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if d.Log != "" {
			args = append(args, "-blockdev", d.logged(i))
		} else {
			args = append(args, "-drive", d.drive(i))
		}
		for _, device := range devices {
			args = append(args, "-device", device)
		}
	}
	return args, errors.Join(errs...)
}

func (d Disk) drive(i int) string {
	drive := fmt.Sprintf("if=none,id=disk%d,format=%s,file=%s", i, escape(orDefault(d.Format, formatRaw)), escape(d.Path))
	if d.ReadOnly || d.Bus == CDROM {
		drive += ",readonly=on"
	}
	if d.Snapshot {
		drive += ",snapshot=on"
	}
	return drive
}

// logged is drive for a disk whose writes are recorded (QEMU's block driver blklogwrites). The log says how long it is at each
// flush, and each write, so that what was recorded is there whenever QEMU is killed.
func (d Disk) logged(i int) string {
	return fmt.Sprintf("driver=blklogwrites,node-name=disk%d,log-super-update-interval=1,file.driver=file,file.filename=%s,log.driver=file,log.filename=%s",
		i, escape(d.Path), escape(d.Log))
}

// attach returns the devices that bring disk number i to the guest, and marks in controllers those that it has added.
func attach(d Disk, i int, controllers map[string]bool) ([]string, error) {
	if d.Path == "" {
		return nil, fmt.Errorf("disk %d names no file", i)
	}
	var devices []string
	shared := func(id, device string) {
		if !controllers[id] {
			controllers[id] = true
			devices = append(devices, device+",id="+id)
		}
	}
	drive := fmt.Sprintf(",drive=disk%d", i)
	serial := ""
	if d.Serial != "" {
		serial = ",serial=" + escape(d.Serial)
	}
	if d.Sector != 0 {
		switch orDefault(d.Bus, VirtioBlk) {
		case VirtioBlk, VirtioSCSI, NVMe, UAS:
			serial += fmt.Sprintf(",logical_block_size=%d,physical_block_size=%d", d.Sector, d.Sector)
		default:
			return nil, fmt.Errorf("disk %s: a %s disk has sectors of 512 bytes; put it on another bus", d.Path, d.Bus)
		}
	}
	switch orDefault(d.Bus, VirtioBlk) {
	case VirtioBlk:
		return append(devices, "virtio-blk-pci"+drive+serial), nil
	case VirtioSCSI:
		shared("scsi", "virtio-scsi-pci")
		return append(devices, "scsi-hd,bus=scsi.0"+drive+serial), nil
	case AHCI:
		if d.ReadOnly {
			return nil, fmt.Errorf("disk %s: an AHCI disk cannot be write-protected; use snapshot, or another bus", d.Path)
		}
		shared("ahci", "ich9-ahci")
		port, err := ahciPort(controllers)
		return append(devices, "ide-hd,bus="+port+drive+serial), err
	case CDROM:
		shared("ahci", "ich9-ahci")
		port, err := ahciPort(controllers)
		return append(devices, "ide-cd,bus="+port+drive+serial), err
	case NVMe:
		// The NVMe device of QEMU does not start without a serial number.
		if d.Serial == "" {
			serial = ",serial=disk" + strconv.Itoa(i) + serial
		}
		return append(devices, "nvme"+drive+serial), nil
	case USB:
		shared("xhci", "qemu-xhci")
		return append(devices, fmt.Sprintf("usb-storage,bus=xhci.0,id=usb%d", i)+drive), nil
	case UAS:
		shared("xhci", "qemu-xhci")
		uas := "uas" + strconv.Itoa(i)
		return append(devices, "usb-uas,bus=xhci.0,id="+uas, "scsi-hd,bus="+uas+".0"+drive+serial), nil
	case SD:
		// Each card needs a slot of its own: a host controller of QEMU has one, and its bus takes no name.
		if controllers["sd"] {
			return nil, fmt.Errorf("disk %s: only one SD card fits; put it on another bus", d.Path)
		}
		controllers["sd"] = true
		return append(devices, "sdhci-pci,id=sd", "sd-card"+drive), nil
	}
	return nil, fmt.Errorf("disk %s: unknown bus %q; want one of %s", d.Path, d.Bus, busNames())
}

// ahciPort takes the next free of the six ports of one controller.
func ahciPort(controllers map[string]bool) (string, error) {
	const ports = 6
	for port := range ports {
		bus := "ahci." + strconv.Itoa(port)
		if !controllers[bus] {
			controllers[bus] = true
			return bus, nil
		}
	}
	return "", fmt.Errorf("more than %d AHCI and CD-ROM disks", ports)
}

func busNames() string {
	var names []string
	for _, bus := range Buses() {
		names = append(names, string(bus))
	}
	return strings.Join(names, ", ")
}
