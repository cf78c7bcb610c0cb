package probe

import (
	"fmt"
	"io"
)

// typeFAT is the type of FAT12, FAT16 and FAT32 alike.
const typeFAT = "vfat"

// fat is the geometry of a FAT file system, from the BIOS parameter block in its boot sector.
type fat struct {
	sector, cluster int64 // bytes
	tables          int64 // where the first FAT starts, bytes
	root            int64 // FAT12 and FAT16: where the root directory starts, bytes
	rootEntries     int64 // FAT12 and FAT16
	data            int64 // FAT32: where cluster 2 starts, bytes
	rootCluster     int64 // FAT32, else 0
	maxCluster      int64 // FAT32: clusters that the table has room for
	serial          []byte
}

// Limits of a look into the root directory. The label is its first entry unless it was given later.
const (
	maxRootClusters = 100
	maxRootBytes    = 2 << 20 // of a FAT32 root directory; FAT itself allows 65536 entries of 32 bytes
	dirEntry        = 32
)

// parseFAT believes a boot sector only if each field makes sense: the magic strings are for people, and the signature is shared
// with partition tables and boot loaders.
func parseFAT(b []byte) (fat, bool) {
	named := has(b, 0x52, "MSWIN") || has(b, 0x52, "FAT32   ") || has(b, 0x36, "MSDOS") ||
		has(b, 0x36, "FAT16   ") || has(b, 0x36, "FAT12   ") || has(b, 0x36, "FAT     ")
	jumps := b[0] == 0xeb || b[0] == 0xe9
	if !named && (!jumps || !has(b, 510, "\x55\xaa") || has(b, 0x36, "JFS     ") || has(b, 0x36, "HPFS    ")) {
		return fat{}, false
	}
	sector, perCluster := int64(le.Uint16(b[11:])), int64(b[13])
	reserved, copies, media := int64(le.Uint16(b[14:])), int64(b[16]), b[21]
	entries, sectors := int64(le.Uint16(b[17:])), int64(le.Uint16(b[19:]))
	length := int64(le.Uint16(b[22:]))
	if !powerOfTwo(uint32(sector)) || sector < 512 || sector > 4096 || !powerOfTwo(uint32(perCluster)) ||
		reserved == 0 || copies == 0 || media < 0xf8 && media != 0xf0 {
		return fat{}, false
	}
	if sectors == 0 {
		sectors = int64(le.Uint32(b[32:]))
	}
	is32 := length == 0
	if is32 {
		length = int64(le.Uint32(b[36:]))
	}
	before := reserved + copies*length + (entries*dirEntry+sector-1)/sector
	if length == 0 || before >= sectors {
		return fat{}, false
	}
	f := fat{sector: sector, cluster: sector * perCluster, tables: reserved * sector, rootEntries: entries}
	f.root = (reserved + copies*length) * sector
	if is32 {
		f.data, f.rootCluster, f.maxCluster = f.root, int64(le.Uint32(b[44:])), length*sector/4
		f.serial = b[67:71]
	} else {
		f.serial = b[39:43]
	}
	return f, true
}

func detectFAT(head []byte) (Content, bool) {
	f, ok := parseFAT(head)
	if !ok {
		return Content{}, false
	}
	c := Content{Type: typeFAT}
	if s := f.serial; !zero(s) {
		c.UUID = fmt.Sprintf("%02X%02X-%02X%02X", s[3], s[2], s[1], s[0])
	}
	return c, true
}

// fatLabel returns the label in the root directory, which is the one that systems show and change; like blkid it leaves alone the
// copy in the boot sector, which goes stale.
func fatLabel(r io.ReaderAt, size int64, head []byte) (string, error) {
	f, ok := parseFAT(head)
	if !ok {
		return "", nil
	}
	if f.rootCluster == 0 {
		label, _, err := f.search(r, size, f.root, f.rootEntries*dirEntry)
		return label, err
	}
	n := f.rootCluster
	for i, left := 0, int64(maxRootBytes); n >= 2 && n < f.maxCluster && i < maxRootClusters && left > 0; i++ {
		label, end, err := f.search(r, size, f.data+(n-2)*f.cluster, f.cluster)
		if end || err != nil {
			return label, err
		}
		left -= f.cluster
		var next [4]byte
		at := f.tables + n*4
		if at+4 > size {
			return "", nil
		}
		if err := readAt(r, next[:], at); err != nil {
			return "", err
		}
		n = int64(le.Uint32(next[:]) & 0x0fffffff)
	}
	return "", nil
}

// search looks for the label in one piece of the root directory; end tells that there is no need to look further. Directories
// that reach behind the end of the device are cut off there.
func (f *fat) search(r io.ReaderAt, size, off, length int64) (label string, end bool, err error) {
	const (
		free, kanji                   = 0xe5, 0x05
		attrVolume, attrDir, attrLong = 0x08, 0x10, 0x0f
		noName                        = "NO NAME    "
	)
	dir := make([]byte, max(0, min(length, size-off)))
	if err := readAt(r, dir, off); err != nil {
		return "", true, err
	}
	for ; len(dir) >= dirEntry; dir = dir[dirEntry:] {
		attr, cluster := dir[11], uint32(le.Uint16(dir[20:]))<<16|uint32(le.Uint16(dir[26:]))
		switch {
		case dir[0] == 0:
			return "", true, nil
		case dir[0] == free, cluster != 0, attr&0x3f == attrLong, attr&(attrVolume|attrDir) != attrVolume:
			continue
		}
		name := append([]byte(nil), dir[:11]...)
		if name[0] == kanji { // stands for a first byte that would mean a free entry
			name[0] = free
		}
		if string(name) == noName {
			return "", true, nil
		}
		return text(name), true, nil
	}
	return "", false, nil
}
