package network

import (
	"fmt"
	"net/netip"
	"strings"
)

// ConfName is the file in /run that tells of a lease, as klibc's ipconfig names it. cloud-init and what comes from
// initramfs-tools read it.
func (l Lease) ConfName() string {
	if l.Address.Addr().Is6() {
		return "net6-" + l.Device + ".conf"
	}
	return "net-" + l.Device + ".conf"
}

// Conf is the content of that file: assignments of the shell, as ipconfig writes them. Shells read it, so that each value is one
// that means nothing to them.
func (l Lease) Conf() []byte {
	var b strings.Builder
	set := func(key, value string) { fmt.Fprintf(&b, "%s='%s'\n", key, strings.ReplaceAll(value, "'", "")) }
	addr := func(a netip.Addr, none string) string {
		if !a.IsValid() {
			return none
		}
		return a.String()
	}
	nth := func(list []netip.Addr, i int) netip.Addr {
		if i < len(list) {
			return list[i]
		}
		return netip.Addr{}
	}
	proto := "none"
	if l.Time > 0 || l.Server.IsValid() {
		proto = "dhcp"
	}
	set("DEVICE", l.Device)
	if l.Address.Addr().Is6() {
		set("IPV6PROTO", string(l.Method))
		set("IPV6ADDR", l.Address.Addr().String())
		set("IPV6NETMASK", fmt.Sprint(l.Address.Bits()))
		set("IPV6GATEWAY", addr(l.Gateway, ""))
		set("IPV6DNS0", addr(nth(l.DNS, 0), ""))
		set("IPV6DNS1", addr(nth(l.DNS, 1), ""))
	} else {
		set("PROTO", proto)
		set("IPV4ADDR", l.Address.Addr().String())
		set("IPV4BROADCAST", broadcast(l.Address).String())
		set("IPV4NETMASK", mask(l.Address.Bits()).String())
		set("IPV4GATEWAY", addr(l.Gateway, "0.0.0.0"))
		set("IPV4DNS0", addr(nth(l.DNS, 0), "0.0.0.0"))
		set("IPV4DNS1", addr(nth(l.DNS, 1), "0.0.0.0"))
	}
	set("HOSTNAME", l.Hostname)
	set("DNSDOMAIN", l.Domain)
	set("NISDOMAIN", "")
	set("ROOTSERVER", addr(l.Server, "0.0.0.0"))
	set("ROOTPATH", "")
	set("filename", "")
	set("DHCPLEASETIME", fmt.Sprint(int64(l.Time.Seconds())))
	set("DOMAINSEARCH", strings.Join(l.Search, " "))
	return []byte(b.String())
}

// Resolv is the content of a resolv.conf(5).
func (l Lease) Resolv() []byte {
	var b strings.Builder
	if search := l.Search; len(search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	} else if l.Domain != "" {
		fmt.Fprintf(&b, "search %s\n", l.Domain)
	}
	for _, a := range l.DNS {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	return []byte(b.String())
}

func mask(bits int) netip.Addr {
	w := ^uint32(0) << (32 - bits)
	return netip.AddrFrom4([4]byte{byte(w >> 24), byte(w >> 16), byte(w >> 8), byte(w)})
}

func broadcast(p netip.Prefix) netip.Addr {
	a, m := p.Addr().As4(), mask(p.Bits()).As4()
	for i := range a {
		a[i] |= ^m[i]
	}
	return netip.AddrFrom4(a)
}
