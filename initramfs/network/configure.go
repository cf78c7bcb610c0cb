package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"veneer/boot/network"
)

// How long a server has for its answer before it is asked again. The second waits twice as long, and so on; then all begins
// anew with another transaction.
const (
	answerTime = time.Second
	tries      = 4
)

// configure gives an interface with a carrier its address and routes.
func (u *upper) configure(ctx context.Context, link netlink.Link, how network.Link) (Lease, error) {
	var l Lease
	var err error
	switch how.Method {
	case network.Static:
		l = Lease{Method: how.Method, Address: how.Address, Gateway: how.Gateway, Server: how.Server}
	case network.Auto6:
		l, err = advertised(ctx, link)
	default:
		l, err = ask(ctx, link, how, u.say)
	}
	if err != nil {
		return Lease{}, err
	}
	l.Device, l.MAC = link.Attrs().Name, link.Attrs().HardwareAddr.String()
	if how.NTP.IsValid() {
		l.NTP = append([]netip.Addr{how.NTP}, l.NTP...)
	}
	if how.Hostname != "" {
		l.Hostname = how.Hostname
	}
	if how.MTU > 0 {
		l.MTU = how.MTU
	}
	dns := append(append(append([]netip.Addr(nil), u.cfg.Servers...), how.DNS...), l.DNS...)
	l.DNS = dns[:min(len(dns), maxServers)]
	if err := ctx.Err(); err != nil { // another was first
		return Lease{}, err
	}
	return l, l.apply(link, u.say)
}

// ask gets a lease by DHCP. It asks again until ctx ends.
func ask(ctx context.Context, link netlink.Link, how network.Link, say func(string)) (Lease, error) {
	a := link.Attrs()
	options := []dhcpv4.Modifier{dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionHostName,
		dhcpv4.OptionDomainName, dhcpv4.OptionInterfaceMTU, dhcpv4.OptionNTPServers, dhcpv4.OptionDNSDomainSearchList, dhcpv4.OptionClasslessStaticRoute),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier("veneer"))}
	if how.Hostname != "" {
		options = append(options, dhcpv4.WithOption(dhcpv4.OptHostName(how.Hostname)))
	}
	var last error
	for {
		say(fmt.Sprintf("ask for an address on %s (%s) by DHCP", a.Name, a.HardwareAddr))
		ack, err := askOnce(ctx, a, options)
		if err == nil {
			var l Lease
			if l, err = leaseOf(ack); err == nil {
				return l, nil
			}
			last = err
		}
		if ctx.Err() != nil {
			if last == nil {
				last = errors.New("no DHCP server answered")
			}
			return Lease{}, last
		}
		if !errors.Is(err, nclient4.ErrNoResponse) {
			last = fmt.Errorf("DHCP: %w", err)
			timer := time.NewTimer(answerTime) // a server that refuses is not asked at full speed
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
			timer.Stop()
		}
	}
}

func askOnce(ctx context.Context, a *netlink.LinkAttrs, options []dhcpv4.Modifier) (*dhcpv4.DHCPv4, error) {
	client, err := nclient4.New(a.Name, nclient4.WithTimeout(answerTime), nclient4.WithRetry(tries), nclient4.WithHWAddr(a.HardwareAddr))
	if err != nil {
		return nil, err
	}
	lease, err := client.Request(ctx, options...)
	if err = errors.Join(err, client.Close()); err != nil {
		return nil, err
	}
	return lease.ACK, nil
}

// advertised waits for the address that the kernel makes of a router's advertisement. A name server is not learned from it.
func advertised(ctx context.Context, link netlink.Link) (Lease, error) {
	updates, done := make(chan netlink.AddrUpdate), make(chan struct{})
	if err := netlink.AddrSubscribeWithOptions(updates, done, netlink.AddrSubscribeOptions{ListExisting: true, ErrorCallback: func(error) {}}); err != nil {
		return Lease{}, fmt.Errorf("watch addresses: %w", err)
	}
	defer func() {
		close(done)
		go func() {
			for range updates {
			}
		}()
	}()
	for {
		select {
		case <-ctx.Done():
			return Lease{}, errors.New("no router advertised a network")
		case up, more := <-updates:
			if !more {
				return Lease{}, errors.New("the kernel tells of no more addresses")
			}
			a, _ := netip.AddrFromSlice(up.LinkAddress.IP)
			if up.LinkIndex != link.Attrs().Index || !up.NewAddr || !a.Is6() || a.Is4In6() || up.Scope != unix.RT_SCOPE_UNIVERSE ||
				up.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 {
				continue
			}
			ones, _ := up.LinkAddress.Mask.Size()
			return Lease{Method: network.Auto6, Address: netip.PrefixFrom(a, ones)}, nil
		}
	}
}

// apply sets what the lease says. Doing it twice changes nothing.
func (l Lease) apply(link netlink.Link, say func(string)) error {
	if l.MTU > 0 {
		say(fmt.Sprintf("ip link set %s mtu %d", l.Device, l.MTU))
		if err := netlink.LinkSetMTU(link, l.MTU); err != nil { // the server's idea of the net is not the card's
			say(fmt.Sprintf("MTU %d on %s: %v", l.MTU, l.Device, err))
		}
	}
	if l.Method != network.Auto6 {
		say(fmt.Sprintf("ip address replace %s dev %s", l.Address, l.Device))
		a := &netlink.Addr{IPNet: ipNet(l.Address)}
		if l.Address.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD // it was given; a boot does not wait for doubts
		} else {
			a.Broadcast = net.IP(broadcast(l.Address).AsSlice())
		}
		if err := netlink.AddrReplace(link, a); err != nil {
			return fmt.Errorf("address %s on %s: %w", l.Address, l.Device, err)
		}
	}
	for _, r := range l.routes() {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(r.To), Scope: netlink.SCOPE_LINK}
		via := ""
		if r.Gateway.IsValid() {
			route.Gw, route.Scope = net.IP(r.Gateway.AsSlice()), netlink.SCOPE_UNIVERSE
			via = " via " + r.Gateway.String()
			if !l.Address.Contains(r.Gateway) { // clouds give /32 and a gateway beside it
				route.Flags = int(netlink.FLAG_ONLINK)
			}
		}
		say(fmt.Sprintf("ip route replace %s%s dev %s", r.To, via, l.Device))
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("route to %s%s on %s: %w", r.To, via, l.Device, err)
		}
	}
	return nil
}

// routes are all of them, those on the link first: others may need them.
func (l Lease) routes() []Route {
	var near, far []Route
	for _, r := range l.Routes {
		if r.Gateway.IsValid() {
			far = append(far, r)
		} else {
			near = append(near, r)
		}
	}
	if l.Gateway.IsValid() {
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if l.Gateway.Is6() {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		far = append(far, Route{all, l.Gateway})
	}
	return append(near, far...)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: net.IP(p.Addr().AsSlice()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
