package probe

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
)

var le, be = binary.LittleEndian, binary.BigEndian

// sniffExt follows struct ext4_super_block (Documentation/filesystems/ext4). All three generations are mounted as ext4.
func sniffExt(d device) (Content, bool) {
	sb := d.at(1024, 1024)
	if sb == nil || le.Uint16(sb[0x38:]) != 0xef53 {
		return Content{}, false
	}
	const journalDevice = 0x8
	if le.Uint32(sb[0x60:])&journalDevice != 0 {
		return Content{Type: "jbd", UUID: uuid(sb[0x68:0x78])}, true
	}
	return Content{"ext4", text(sb[0x78:0x88]), uuid(sb[0x68:0x78])}, true
}

// sniffXFS follows struct xfs_dsb.
func sniffXFS(d device) (Content, bool) {
	sb := d.at(0, 512)
	if sb == nil || !d.is(0, "XFSB") {
		return Content{}, false
	}
	return Content{"xfs", text(sb[108:120]), uuid(sb[32:48])}, true
}

// sniffBtrfs follows struct btrfs_super_block.
func sniffBtrfs(d device) (Content, bool) {
	const super = 64 << 10
	if !d.is(super+0x40, "_BHRfS_M") {
		return Content{}, false
	}
	return Content{"btrfs", text(d.at(super+0x12b, 256)), uuid(d.at(super+0x20, 16))}, true
}

// sniffSquashfs follows struct squashfs_super_block; squashfs has neither label nor UUID.
func sniffSquashfs(d device) (Content, bool) {
	sb := d.at(0, 96)
	if sb == nil || !d.is(0, "hsqs") || le.Uint16(sb[28:]) != 4 {
		return Content{}, false
	}
	return Content{Type: "squashfs"}, true
}

// sniffEROFS follows struct erofs_super_block.
func sniffEROFS(d device) (Content, bool) {
	sb := d.at(1024, 128)
	if sb == nil || le.Uint32(sb) != 0xe0f5e1e2 {
		return Content{}, false
	}
	return Content{"erofs", text(sb[64:80]), uuid(sb[48:64])}, true
}

// sniffISO follows ECMA-119, the primary volume descriptor; the UUID is the volume's date as blkid spells it.
func sniffISO(d device) (Content, bool) {
	const descriptor = 32 << 10
	if !d.is(descriptor, "\x01CD001") {
		return Content{}, false
	}
	pvd := d.at(descriptor, 2048)
	if pvd == nil {
		return Content{}, false
	}
	c := Content{Type: "iso9660", Label: padded(pvd[40:72])}
	for _, at := range []int{830, 813} { // modified, else created
		if date := string(pvd[at : at+16]); strings.Trim(date, "0123456789") == "" && strings.Trim(date, "0") != "" {
			c.UUID = fmt.Sprintf("%s-%s-%s-%s-%s-%s-%s", date[:4], date[4:6], date[6:8], date[8:10], date[10:12], date[12:14], date[14:16])
			break
		}
	}
	return c, true
}

// sniffLUKS follows the on-disk formats LUKS1 and LUKS2; only the second has a label.
func sniffLUKS(d device) (Content, bool) {
	sb := d.at(0, 512)
	if sb == nil || !d.is(0, "LUKS\xba\xbe") {
		return Content{}, false
	}
	c := Content{Type: "crypto_LUKS", UUID: text(sb[168:208])}
	if be.Uint16(sb[6:]) == 2 {
		c.Label = text(sb[24:72])
	}
	return c, true
}

// sniffSwap follows union swap_header, for the page sizes of our architectures.
func sniffSwap(d device) (Content, bool) {
	for _, page := range []int64{4 << 10, 16 << 10, 64 << 10} {
		if d.is(page-10, "SWAPSPACE2") {
			return Content{"swap", text(d.at(1052, 16)), uuid(d.at(1036, 16))}, true
		}
	}
	return Content{}, false
}

func sniffNTFS(d device) (Content, bool) {
	return Content{Type: "ntfs"}, d.is(3, "NTFS    ")
}

func sniffExFAT(d device) (Content, bool) {
	return Content{Type: "exfat"}, d.is(3, "EXFAT   ")
}

// fat is the BIOS parameter block of a FAT file system (Microsoft's FAT specification, ECMA-107).
type fat struct {
	sector, cluster, reserved, copies, rootEntries, fatSectors, rootCluster int64
	serial, label                                                          []byte
	wide                                                                   bool // FAT32
}

func parseFAT(d device) (fat, bool) {
	b := d.at(0, 512)
	if b == nil || b[510] != 0x55 || b[511] != 0xaa || b[0] != 0xeb && b[0] != 0xe9 {
		return fat{}, false
	}
	f := fat{sector: int64(le.Uint16(b[11:])), cluster: int64(b[13]), reserved: int64(le.Uint16(b[14:])), copies: int64(b[16]),
		rootEntries: int64(le.Uint16(b[17:])), fatSectors: int64(le.Uint16(b[22:]))}
	power := func(n int64) bool { return n > 0 && n&(n-1) == 0 }
	if !power(f.sector) || f.sector < 512 || f.sector > 4096 || !power(f.cluster) || f.reserved == 0 || f.copies < 1 || f.copies > 2 || b[21] < 0xf0 {
		return fat{}, false
	}
	var mark string
	if f.fatSectors == 0 {
		f.wide, f.fatSectors, f.rootCluster = true, int64(le.Uint32(b[36:])), int64(le.Uint32(b[44:]))
		f.serial, f.label, mark = b[67:71], b[71:82], string(b[82:87])
	} else {
		f.serial, f.label, mark = b[39:43], b[43:54], string(b[54:57])+"32"
	}
	return f, mark == "FAT32"
}

// sniffFAT reads the label from the root directory, where the systems that write it keep it, and else from the boot sector.
func sniffFAT(d device) (Content, bool) {
	f, ok := parseFAT(d)
	if !ok {
		return Content{}, false
	}
	c := Content{Type: "vfat", Label: padded(f.label)}
	if c.Label == "NO NAME" {
		c.Label = ""
	}
	root := (f.reserved + f.copies*f.fatSectors) * f.sector
	length := f.rootEntries * 32
	if f.wide {
		root += (f.rootCluster - 2) * f.cluster * f.sector
		length = f.cluster * f.sector // the first cluster: the label is the first entry of a fresh directory
	}
	if label := rootLabel(d.at(root, min(length, headSize))); label != "" {
		c.Label = label
	}
	if serial := le.Uint32(f.serial); serial != 0 {
		c.UUID = fmt.Sprintf("%04X-%04X", serial>>16, serial&0xffff)
	}
	return c, true
}

func rootLabel(dir []byte) string {
	for ; len(dir) >= 32; dir = dir[32:] {
		const volume, longName, deleted = 0x08, 0x0f, 0xe5
		switch attr := dir[11]; {
		case dir[0] == 0:
			return ""
		case dir[0] != deleted && attr&longName != longName && attr&volume != 0:
			name := append([]byte(nil), dir[:11]...)
			if name[0] == 0x05 { // stands for 0xe5, which would mean deleted
				name[0] = 0xe5
			}
			return padded(name)
		}
	}
	return ""
}

// utf16le decodes a name that ends at its first zero unit.
func utf16le(b []byte) string {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		u := le.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}
