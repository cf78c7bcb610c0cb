package network

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Method says how a link gets its address.
type Method string

// The methods.
const (
	DHCP   Method = "dhcp"   // DHCPv4
	Auto6  Method = "auto6"  // the kernel's own IPv6 autoconfiguration, from router advertisements
	Static Method = "static" // the address is given
	Off    Method = "off"    // nothing is configured
)

// Link is one ip=.
type Link struct {
	Device   string // the kernel's name; empty: any that has a carrier
	MAC      MAC    // of the device, as dracut's form has it; zero: any
	Method   Method
	Address  netip.Prefix // of Static
	Server   netip.Addr   // the kernel's <server-ip>, for whoever reads the record
	Gateway  netip.Addr
	Hostname string
	DNS      []netip.Addr
	NTP      netip.Addr
	MTU      int // 0: the interface's own
}

// Limits of what is read.
const (
	maxIP     = 512
	maxDevice = 15 // IFNAMSIZ less the NUL
	minMTU    = 576
	maxMTU    = 65535
	maxName   = 253
)

// autoconf are the words for <autoconf>. What is not listed is refused, with its reason in refused.
var autoconf = map[string]Method{"": DHCP, "dhcp": DHCP, "dhcp4": DHCP, "on": DHCP, "any": DHCP, "off": Off, "none": Off, "auto6": Auto6}

var refused = map[string]string{
	"bootp": "BOOTP alone is not supported, DHCP is: write dhcp", "both": "BOOTP and RARP are not supported, DHCP is: write dhcp",
	"rarp": "RARP is not supported, DHCP is: write dhcp", "dhcp6": "DHCPv6 is not supported: write auto6, dhcp, or the address itself",
	"either6": "DHCPv6 is not supported: write auto6", "ibft": "iBFT is not supported: write dhcp or the address itself",
	"link6": "a link-local address reaches no store: write auto6", "link-local": "a link-local address reaches no store: write dhcp",
	"single-dhcp": "write dhcp: the first interface that gets a lease is the one",
}

// ParseIP reads the value of ip=:
//
//	AUTOCONF                                                                              dhcp, on, any, auto6, off, none
//	DEVICE:AUTOCONF[:[MTU][:MAC]]                                                         as dracut has it
//	CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF[:DNS0[:DNS1[:NTP0]]]           as the kernel has it
//	CLIENT:...:AUTOCONF:[MTU][:MAC]                                                       as dracut has it
//
// Each field may be empty, and those at the end missing. NETMASK is dotted or the number of its bits; without one it is that of
// the address's class, as the kernel has it. With CLIENT the address is that, whatever AUTOCONF says. IPv6 addresses stand in
// brackets.
func ParseIP(s string) (Link, error) {
	if len(s) > maxIP {
		return Link{}, fmt.Errorf("%d bytes are more than %d", len(s), maxIP)
	}
	fields, err := splitFields(s)
	if err != nil {
		return Link{}, err
	}
	if first := fields[0]; first == "" && len(fields) > 1 || strings.HasPrefix(first, "[") || first != "" && strings.Trim(first, "0123456789.") == "" {
		return parseLong(fields)
	}
	if len(fields) > 1 {
		return parseShort(fields)
	}
	m, err := method(fields[0])
	return Link{Method: m}, err
}

func parseShort(f []string) (l Link, err error) {
	if l.Device, err = device(f[0]); err != nil {
		return l, err
	}
	if l.Method, err = method(f[1]); err != nil {
		return l, err
	}
	err = l.parseTail(f[2:])
	return l, err
}

func parseLong(f []string) (l Link, err error) {
	const all = 7 // up to AUTOCONF
	tail := f[min(len(f), all):]
	f = append(append([]string(nil), f[:min(len(f), all)]...), make([]string, max(0, all-len(f)))...)
	var errs []error
	client, e := parseAddr(f[0])
	errs = append(errs, named("client", e))
	l.Server, e = parseAddr(f[1])
	errs = append(errs, named("server", e))
	l.Gateway, e = parseAddr(f[2])
	errs = append(errs, named("gateway", e))
	if f[4] != "" {
		l.Hostname, e = hostname(f[4])
		errs = append(errs, e)
	}
	if f[5] != "" {
		l.Device, e = device(f[5])
		errs = append(errs, e)
	}
	l.Method, e = method(f[6])
	errs = append(errs, e, l.parseTail(tail))
	if err := errors.Join(errs...); err != nil {
		return Link{}, err
	}
	if !client.IsValid() {
		if l.Method == Off && (f[3] != "" || l.Gateway.IsValid()) {
			return Link{}, errors.New("a netmask or a gateway, and no address: name the client")
		}
		return l, nil
	}
	return static(l, client, f[3])
}

// static gives a link its own address.
func static(l Link, client netip.Addr, mask string) (Link, error) {
	bits, err := maskBits(mask, client)
	if err != nil {
		return Link{}, err
	}
	l.Method, l.Address = Static, netip.PrefixFrom(client, bits)
	if l.Gateway.IsValid() && l.Gateway.Is4() != client.Is4() {
		return Link{}, fmt.Errorf("gateway %s is not of the family of %s", l.Gateway, client)
	}
	return l, nil
}

// parseTail reads what follows AUTOCONF: addresses of servers, or an MTU and the six parts of a MAC.
func (l *Link) parseTail(f []string) (err error) {
	if len(f) == 0 {
		return nil
	}
	if isAddr(f[0]) || f[0] == "" && len(f) > 1 && (isAddr(f[1]) || f[1] == "") {
		if len(f) > 3 {
			return fmt.Errorf("%d fields behind the method, the most is DNS0:DNS1:NTP0", len(f))
		}
		for i, s := range f {
			a, err := parseAddr(s)
			if err != nil {
				return named([]string{"first DNS server", "second DNS server", "NTP server"}[i], err)
			}
			switch {
			case !a.IsValid():
			case i == 2:
				l.NTP = a
			default:
				l.DNS = append(l.DNS, a)
			}
		}
		return nil
	}
	if f[0] != "" {
		n, err := strconv.Atoi(f[0])
		if err != nil || n < minMTU || n > maxMTU {
			return fmt.Errorf("MTU %q: want a number from %d to %d", f[0], minMTU, maxMTU)
		}
		l.MTU = n
	}
	if len(f) > 1 {
		l.MAC, err = ParseMAC(strings.Join(f[1:], ":"))
	}
	return err
}

// splitFields cuts at colons outside brackets.
func splitFields(s string) ([]string, error) {
	var fields []string
	start, inside := 0, false
	for i := 0; i <= len(s); i++ {
		switch {
		case i == len(s) || s[i] == ':' && !inside:
			if inside {
				return nil, errors.New("a bracket is opened and not closed")
			}
			fields = append(fields, s[start:i])
			start = i + 1
		case s[i] == '[':
			if inside || i != start {
				return nil, errors.New("a bracket does not begin an address")
			}
			inside = true
		case s[i] == ']':
			if !inside {
				return nil, errors.New("a bracket is closed and not opened")
			}
			inside = false
		}
	}
	return fields, nil
}

func isAddr(s string) bool {
	a, err := parseAddr(s)
	return err == nil && a.IsValid()
}

// parseAddr reads an address; an empty one is the zero Addr, and 0.0.0.0 too, as the kernel has it.
func parseAddr(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		a, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !a.Is6() || a.Zone() != "" || a.Is4In6() {
			return netip.Addr{}, fmt.Errorf("%q is no IPv6 address", s)
		}
		return a, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return netip.Addr{}, fmt.Errorf("%q is no IPv4 address", s)
	}
	if a.IsUnspecified() {
		return netip.Addr{}, nil
	}
	return a, nil
}

// maskBits reads a netmask for an address.
func maskBits(mask string, a netip.Addr) (int, error) {
	if mask == "" {
		switch first := a.As16()[12]; { // of an IPv4 address the first byte
		case a.Is6():
			return 64, nil
		case first < 128:
			return 8, nil
		case first < 192:
			return 16, nil
		default:
			return 24, nil
		}
	}
	if n, err := strconv.ParseUint(mask, 10, 8); err == nil && int(n) <= a.BitLen() && n > 0 {
		return int(n), nil
	}
	m, err := netip.ParseAddr(mask)
	if err != nil || !m.Is4() || !a.Is4() {
		return 0, fmt.Errorf("netmask %q: want one like 255.255.255.0, or the number of its bits", mask)
	}
	b := m.As4()
	word := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	for bits := 1; bits <= 32; bits++ {
		if word == ^uint32(0)<<(32-bits) {
			return bits, nil
		}
	}
	return 0, fmt.Errorf("netmask %q: its ones are not all in front", mask)
}

func method(s string) (Method, error) {
	if m, ok := autoconf[s]; ok {
		return m, nil
	}
	if why, ok := refused[s]; ok {
		return "", fmt.Errorf("%q: %s", s, why)
	}
	return "", fmt.Errorf("%q is no method: want dhcp, auto6, off, or the fields of an address (docs/netboot.md)", s)
}

// device checks the name of an interface as the kernel does (dev_valid_name).
func device(s string) (string, error) {
	if s == "" || len(s) > maxDevice || s == "." || s == ".." || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == ':' }) {
		return "", fmt.Errorf("%q is no name of an interface", s)
	}
	return s, nil
}

func hostname(s string) (string, error) {
	if !IsName(s) {
		return "", fmt.Errorf("%q is no host name", s)
	}
	return s, nil
}

// IsName reports whether s is a host or domain name that is safe anywhere: letters, digits, hyphens, underscores and dots.
func IsName(s string) bool {
	if s == "" || len(s) > maxName || s[0] == '-' || s[0] == '.' {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

func named(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
