package network

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"veneer/boot/network"
)

// Lease is how an interface was set up.
type Lease struct {
	Device   string
	MAC      string
	Method   network.Method
	Address  netip.Prefix
	Gateway  netip.Addr // of the default route
	Routes   []Route    // beside it
	DNS      []netip.Addr
	NTP      []netip.Addr
	Hostname string
	Domain   string
	Search   []string
	MTU      int           // 0: the interface's own
	Server   netip.Addr    // of DHCP
	Time     time.Duration // that the address was given for; 0: no end
}

// Route is a way to a net. Without a gateway the net is on the link.
type Route struct {
	To      netip.Prefix
	Gateway netip.Addr
}

// Limits of what is taken of a lease.
const (
	maxRoutes  = 64
	maxServers = 3
	maxSearch  = 16
	minMTU     = 576 // RFC 2132, 5.1 has 68; below 576 no IPv4 has to work
)

// leaseOf reads an acknowledgement. What is not well formed in it is left out, but for the address.
func leaseOf(ack *dhcpv4.DHCPv4) (Lease, error) {
	a, ok := addr4(ack.YourIPAddr)
	if !ok || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
		return Lease{}, fmt.Errorf("the server gives the address %v", ack.YourIPAddr)
	}
	l := Lease{Method: network.DHCP, Time: min(max(ack.IPAddressLeaseTime(0), 0), 100*365*24*time.Hour)}
	bits := 32
	if ones, all := ack.SubnetMask().Size(); all == 32 && ones > 0 {
		bits = ones
	}
	l.Address = netip.PrefixFrom(a, bits)
	l.DNS = addrs(ack.DNS(), maxServers)
	l.NTP = addrs(ack.NTPServers(), maxServers)
	l.Server, _ = addr4(ack.ServerIdentifier())
	if name := ack.HostName(); network.IsName(name) {
		l.Hostname = name
	}
	if name := strings.TrimSuffix(ack.DomainName(), "."); network.IsName(name) {
		l.Domain = name
	}
	if search := ack.DomainSearch(); search != nil {
		for _, name := range search.Labels {
			if network.IsName(name) && len(l.Search) < maxSearch {
				l.Search = append(l.Search, name)
			}
		}
	}
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options); err == nil && mtu >= minMTU {
		l.MTU = int(mtu)
	}
	routes := ack.ClasslessStaticRoute()
	if len(routes) == 0 {
		if gateways := addrs(ack.Router(), 1); len(gateways) > 0 {
			l.Gateway = gateways[0]
		}
	}
	for _, r := range routes { // with these the routers do not count (RFC 3442)
		l.addRoute(r)
	}
	return l, nil
}

func (l *Lease) addRoute(r *dhcpv4.Route) {
	if r == nil || r.Dest == nil || len(l.Routes) >= maxRoutes {
		return
	}
	gateway, ok := addr4(r.Router)
	to, tok := addr4(r.Dest.IP)
	ones, all := r.Dest.Mask.Size()
	if !ok || !tok || all != 32 {
		return
	}
	if gateway.IsUnspecified() {
		gateway = netip.Addr{}
	}
	prefix := netip.PrefixFrom(to, ones).Masked()
	if ones == 0 && gateway.IsValid() {
		l.Gateway = gateway
		return
	}
	l.Routes = append(l.Routes, Route{prefix, gateway})
}

func addr4(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip.To4())
	return a, ok
}

// addrs are the usable ones of a list, up to so many.
func addrs(list []net.IP, most int) (out []netip.Addr) {
	for _, ip := range list {
		if a, ok := addr4(ip); ok && !a.IsUnspecified() && !a.IsMulticast() && len(out) < most {
			out = append(out, a)
		}
	}
	return out
}

// String says it in a line.
func (l Lease) String() string {
	s := fmt.Sprintf("%s (%s) has %s by %s", l.Device, l.MAC, l.Address, l.Method)
	if l.Gateway.IsValid() {
		s += ", gateway " + l.Gateway.String()
	}
	for i, a := range l.DNS {
		s += []string{", DNS ", " "}[min(i, 1)] + a.String()
	}
	return s
}
