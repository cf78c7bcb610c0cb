package probe

import (
	"bytes"
	"encoding/binary"
)

// le and be are the byte orders of the disk formats.
var (
	le = binary.LittleEndian
	be = binary.BigEndian
)

// btrfsOffset is where the first btrfs superblock lies.
const btrfsOffset = 64 << 10

func has(b []byte, off int, magic string) bool {
	return string(b[off:off+len(magic)]) == magic
}

// detectExt finds ext2, ext3 and ext4. All three are "ext4", the driver that mounts them; blkid tells them apart by features
// which that driver knows how to do without.
func detectExt(head []byte) (Content, bool) {
	const (
		maxLogBlock, maxRevision = 6, 1 // blocks of 64 KiB
		journalDevice            = 0x8  // incompatible feature: the journal of another file system
	)
	b := head[1024:]
	// The magic number is only two bytes long and turns up by chance; the rest of it does not.
	if !has(b, 0x38, "\x53\xef") || le.Uint32(b[0x18:]) > maxLogBlock || le.Uint32(b[0x4c:]) > maxRevision {
		return Content{}, false
	}
	c := Content{"ext4", text(b[0x78:0x88]), uuid(b[0x68:])}
	if le.Uint32(b[0x60:])&journalDevice != 0 {
		c.Type = "jbd"
		return c, true
	}
	inodesPerGroup := le.Uint32(b[0x28:])
	return c, inodesPerGroup != 0
}

func detectBtrfs(head []byte) (Content, bool) {
	b := head[btrfsOffset:]
	return Content{"btrfs", text(b[0x12b : 0x12b+256]), uuid(b[0x20:])}, has(b, 0x40, "_BHRfS_M")
}

func detectXFS(head []byte) (Content, bool) {
	block, log := be.Uint32(head[4:]), head[120]
	ok := has(head, 0, "XFSB") && log >= 9 && log <= 16 && block == 1<<log
	return Content{"xfs", text(head[108:120]), uuid(head[32:])}, ok
}

func detectSquashFS(head []byte) (Content, bool) {
	block, log, major := le.Uint32(head[12:]), le.Uint16(head[22:]), le.Uint16(head[28:])
	return Content{Type: "squashfs"}, has(head, 0, "hsqs") && major == 4 && log <= 20 && block == 1<<log
}

func detectEROFS(head []byte) (Content, bool) {
	b := head[1024:]
	ok := le.Uint32(b) == 0xe0f5e1e2 && b[12] >= 9 && b[12] <= 16
	return Content{"erofs", text(b[64:80]), uuid(b[48:])}, ok
}

// detectLUKS reads the first header only; its UUID is a string.
func detectLUKS(head []byte) (Content, bool) {
	c := Content{Type: "crypto_LUKS", UUID: text(head[168:208])}
	version := be.Uint16(head[6:])
	if version == 2 {
		c.Label = text(head[24:72])
	}
	return c, has(head, 0, "LUKS\xba\xbe") && (version == 1 || version == 2)
}

// detectSwap finds swap space, and the image of a suspended system that lies in it. The magic number ends the first page, and
// a page is as large as it was on the machine that made it.
func detectSwap(head []byte) (Content, bool) {
	for page := 4 << 10; page <= 64<<10; page <<= 1 {
		magic := head[page-10 : page]
		c := Content{Type: "swap", Label: text(head[1052:1068]), UUID: uuid(head[1036:])}
		switch {
		case bytes.Equal(magic, []byte("SWAPSPACE2")):
			version := le.Uint32(head[1024:])
			if version == 1 || version == 1<<24 { // made on a machine of the other byte order
				return c, true
			}
		case bytes.HasPrefix(magic, []byte("S1SUSPEND")), bytes.HasPrefix(magic, []byte("S2SUSPEND")), bytes.HasPrefix(magic, []byte("ULSUSPEND")):
			c.Type = "swsuspend"
			return c, true
		}
	}
	return Content{}, false
}

func detectNTFS(head []byte) (Content, bool) {
	return Content{Type: "ntfs"}, has(head, 3, "NTFS    ") && powerOfTwo(uint32(le.Uint16(head[11:])))
}

func detectExFAT(head []byte) (Content, bool) {
	return Content{Type: "exfat"}, has(head, 3, "EXFAT   ") && zero(head[11:64])
}

// detectMDRaid finds a member of a Linux RAID whose superblock lies at the start (formats 1.1 and 1.2).
func detectMDRaid(head []byte) (Content, bool) {
	for _, off := range []int{0, 4096} {
		b := head[off:]
		if le.Uint32(b) == 0xa92b4efc && le.Uint32(b[4:]) == 1 && le.Uint64(b[144:]) == uint64(off/512) {
			return Content{"linux_raid_member", text(b[32:64]), uuid(b[16:])}, true
		}
	}
	return Content{}, false
}

// detectLVM finds a physical volume: its label is in one of the first four sectors.
func detectLVM(head []byte) (Content, bool) {
	for sector := range 4 {
		b := head[sector*512:]
		if has(b, 0, "LABELONE") && has(b, 24, "LVM2 001") && le.Uint64(b[8:]) == uint64(sector) {
			return Content{Type: "LVM2_member"}, true
		}
	}
	return Content{}, false
}
