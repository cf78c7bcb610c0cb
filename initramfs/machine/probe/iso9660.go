package probe

import (
	"fmt"
	"unicode/utf16"
)

// Volume descriptors of ISO 9660, one in each sector from the seventeenth on.
const (
	isoFirst       = 32 << 10
	isoSector      = 2 << 10
	isoMax         = 16 // descriptors looked at
	isoPrimary     = 1
	isoJoliet      = 2
	isoLast        = 255
	isoIdentifier  = "CD001"
	isoLabelOffset = 40
	isoLabelLength = 32
)

func detectISO9660(head []byte) (Content, bool) {
	primary := head[isoFirst:]
	if primary[0] != isoPrimary || !has(primary, 1, isoIdentifier) {
		return Content{}, false
	}
	label := primary[isoLabelOffset : isoLabelOffset+isoLabelLength]
	c := Content{Type: "iso9660", Label: text(label), UUID: isoDate(primary[830:])}
	if c.UUID == "" {
		c.UUID = isoDate(primary[813:])
	}
	for n := 1; n < isoMax; n++ {
		b := head[isoFirst+n*isoSector:][:isoSector]
		if b[0] == isoLast || !has(b, 1, isoIdentifier) {
			break
		}
		if b[0] == isoJoliet && (has(b, 88, "%/@") || has(b, 88, "%/C") || has(b, 88, "%/E")) {
			c.Label = jolietLabel(label, b[isoLabelOffset:isoLabelOffset+isoLabelLength])
			break
		}
	}
	return c, true
}

// isoDate makes a UUID of a date of 16 digits and a time zone; a date that is not set, or holds what no text can, is none.
func isoDate(b []byte) string {
	if b[16] == 0 && string(b[:16]) == "0000000000000000" {
		return ""
	}
	for _, c := range b[:16] {
		if c < ' ' || c > '~' {
			return ""
		}
	}
	return fmt.Sprintf("%s-%s-%s-%s-%s-%s-%s", b[0:4], b[4:6], b[6:8], b[8:10], b[10:12], b[12:14], b[14:16])
}

// jolietLabel joins the two labels of a volume. The Joliet one knows letters of every kind but is only half as long: where it
// begins as the primary one does, but for what that one cannot express, the primary one supplies the rest.
func jolietLabel(primary, joliet []byte) string {
	units := make([]uint16, len(joliet)/2)
	same := true
	for i := range units {
		units[i] = be.Uint16(joliet[2*i:])
		p := uint16(primary[i])
		same = same && (units[i] == p || p == '_' || p >= 'A' && p <= 'Z' && units[i] == p+'a'-'A')
	}
	long := []byte(string(utf16.Decode(units)))
	if same {
		long = append(long, primary[len(units):]...)
	}
	return text(long)
}
