package network

import (
	"fmt"
	"strconv"
	"strings"
)

// MAC is the address of an Ethernet device.
type MAC [6]byte

// String returns the usual spelling.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// ParseMAC reads six bytes with colons or hyphens between them.
func ParseMAC(s string) (MAC, error) {
	var m MAC
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == ':' || r == '-' })
	if len(parts) != len(m) || len(s) != 3*len(m)-1 {
		return m, fmt.Errorf("%q is no hardware address: want 52:54:00:12:34:56", s)
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 16, 8)
		if err != nil || len(p) != 2 {
			return MAC{}, fmt.Errorf("%q is no hardware address: want 52:54:00:12:34:56", s)
		}
		m[i] = byte(n)
	}
	if m == (MAC{}) {
		return m, fmt.Errorf("%q is the hardware address of nobody", s)
	}
	return m, nil
}

// ParseBOOTIF reads BOOTIF= as PXELINUX and iPXE write it: the hardware type, 01 for Ethernet, and the address. The type may be
// missing.
func ParseBOOTIF(s string) (MAC, error) {
	if len(s) == 3*7-1 {
		kind, rest := s[:2], s[3:]
		if kind != "01" || s[2] != '-' && s[2] != ':' {
			return MAC{}, fmt.Errorf("%q: hardware type %q is not 01, Ethernet", s, kind)
		}
		s = rest
	}
	return ParseMAC(s)
}
