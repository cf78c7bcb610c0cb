package boot

import (
	"fmt"
	"strings"
)

// RefKind is the property by which a device is looked up.
type RefKind string

// The kinds of reference, spelled as on the kernel command line.
const (
	ByLabel     RefKind = "LABEL"
	ByUUID      RefKind = "UUID"
	ByPartLabel RefKind = "PARTLABEL"
	ByPartUUID  RefKind = "PARTUUID"
	ByPath      RefKind = "path"
)

// maxRef bounds a reference; the longest real one is a GPT partition name of 36 UTF-16 units.
const maxRef = 256

// DeviceRef names one block device by a property of its content, of its partition table entry, or by its path.
type DeviceRef struct {
	Kind  RefKind
	Value string // UUIDs in lower case; a path is absolute and below /dev
}

// String returns the reference as the kernel command line spells it, before quoting.
func (r DeviceRef) String() string {
	if r.Kind == ByPath || r.Kind == "" {
		return r.Value
	}
	return string(r.Kind) + "=" + r.Value
}

// ParseDeviceRef reads LABEL=…, UUID=…, PARTLABEL=…, PARTUUID=… or an absolute path below /dev. The names that udev would
// make (/dev/disk/by-label/… and its kin) are understood as the reference that they stand for, since no udev runs here.
func ParseDeviceRef(s string) (DeviceRef, error) {
	if len(s) > maxRef {
		return DeviceRef{}, fmt.Errorf("device reference of %d bytes is longer than %d", len(s), maxRef)
	}
	if strings.HasPrefix(s, "/") {
		return parsePath(s)
	}
	kind, value, ok := strings.Cut(s, "=")
	if !ok {
		return DeviceRef{}, fmt.Errorf("device reference %q: want LABEL=, UUID=, PARTLABEL=, PARTUUID= or a path below /dev", s)
	}
	return newRef(RefKind(kind), value, s)
}

func parsePath(s string) (DeviceRef, error) {
	for dir, kind := range map[string]RefKind{
		"/dev/disk/by-label/": ByLabel, "/dev/disk/by-uuid/": ByUUID,
		"/dev/disk/by-partlabel/": ByPartLabel, "/dev/disk/by-partuuid/": ByPartUUID,
	} {
		if value, ok := strings.CutPrefix(s, dir); ok {
			return newRef(kind, unescapeUdev(value), s)
		}
	}
	name, ok := strings.CutPrefix(s, "/dev/")
	if !ok || name == "" || strings.ContainsRune(name, 0) {
		return DeviceRef{}, fmt.Errorf("device path %q does not lie below /dev", s)
	}
	for _, part := range strings.Split(name, "/") {
		if part == "" || part == "." || part == ".." {
			return DeviceRef{}, fmt.Errorf("device path %q is not clean", s)
		}
	}
	return DeviceRef{ByPath, s}, nil
}

func newRef(kind RefKind, value, whole string) (DeviceRef, error) {
	if value == "" {
		return DeviceRef{}, fmt.Errorf("device reference %q names nothing", whole)
	}
	if strings.ContainsRune(value, 0) {
		return DeviceRef{}, fmt.Errorf("device reference %q holds a NUL byte", whole)
	}
	switch kind {
	case ByLabel, ByPartLabel:
		return DeviceRef{kind, value}, nil
	case ByUUID, ByPartUUID:
		return DeviceRef{kind, lower(value)}, nil
	}
	return DeviceRef{}, fmt.Errorf("device reference %q: unknown kind %q; want LABEL, UUID, PARTLABEL or PARTUUID", whole, kind)
}

// unescapeUdev undoes the \xNN escapes of udev's link names.
func unescapeUdev(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x' {
			if hi, lo := unhex(s[i+2]), unhex(s[i+3]); hi >= 0 && lo >= 0 {
				b.WriteByte(byte(hi<<4 | lo))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// lower turns ASCII letters into small ones and leaves every other byte, valid UTF-8 or not, as it is.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
