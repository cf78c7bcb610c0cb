package network

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"veneer/boot/network"
)

func TestConfIsWhatKlibcWrites(t *testing.T) {
	l := Lease{Device: "eth0", Method: network.DHCP, Address: netip.MustParsePrefix("10.9.0.51/22"), Gateway: netip.MustParseAddr("10.9.0.1"), DNS: []netip.Addr{netip.MustParseAddr("10.9.0.2")},
		Hostname: "kiosk", Domain: "example.org", Search: []string{"a.example", "b.example"}, Server: netip.MustParseAddr("10.9.0.1"), Time: time.Hour}
	want := `DEVICE='eth0'
PROTO='dhcp'
IPV4ADDR='10.9.0.51'
IPV4BROADCAST='10.9.3.255'
IPV4NETMASK='255.255.252.0'
IPV4GATEWAY='10.9.0.1'
IPV4DNS0='10.9.0.2'
IPV4DNS1='0.0.0.0'
HOSTNAME='kiosk'
DNSDOMAIN='example.org'
NISDOMAIN=''
ROOTSERVER='10.9.0.1'
ROOTPATH=''
filename=''
DHCPLEASETIME='3600'
DOMAINSEARCH='a.example b.example'
`
	if got := string(l.Conf()); got != want || l.ConfName() != "net-eth0.conf" {
		t.Errorf("%s:\n%s\nwant:\n%s", l.ConfName(), got, want)
	}
	if got := string(l.Resolv()); got != "search a.example b.example\nnameserver 10.9.0.2\n" {
		t.Errorf("resolv.conf:\n%s", got)
	}
}

// ack is an acknowledgement with options as a server of an enemy may send them.
func ack(t testing.TB, options ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	p, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithYourIP(net.IPv4(10, 9, 0, 5)), dhcpv4.WithMessageType(dhcpv4.MessageTypeAck)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWhatAServerSaysMeansNothingToAShell(t *testing.T) {
	l, err := leaseOf(ack(t, dhcpv4.WithOption(dhcpv4.OptHostName("a'; reboot; '")), dhcpv4.WithOption(dhcpv4.OptDomainName("$(reboot)")),
		dhcpv4.WithDomainSearchList("ok.example", "bad name"), dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{0, 1})))
	if err != nil || l.Hostname != "" || l.Domain != "" || len(l.Search) != 1 || l.MTU != 0 {
		t.Errorf("%+v, %v", l, err)
	}
	if l.Address.Bits() != 32 {
		t.Errorf("without a mask the net is %s, want one address", l.Address)
	}
	for _, ip := range []net.IP{net.IPv4zero, net.IPv4(224, 0, 0, 1), net.IPv4(127, 0, 0, 1)} {
		if l, err := leaseOf(ack(t, dhcpv4.WithYourIP(ip))); err == nil {
			t.Errorf("%v was taken: %+v", ip, l)
		}
	}
}

// What arrives on the wire is read by the library, then by us.
func FuzzLease(f *testing.F) {
	f.Add(ack(f, dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithOption(dhcpv4.OptRouter(net.IPv4(10, 9, 0, 1))), dhcpv4.WithDomainSearchList("a.example"),
		dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4(10, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}, Router: net.IPv4(10, 9, 0, 1).To4()}))).ToBytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := dhcpv4.FromBytes(b)
		if err != nil {
			return
		}
		l, err := leaseOf(p)
		if err != nil {
			return
		}
		l.Device = "eth0"
		for line := range strings.Lines(string(l.Conf())) {
			key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			if inner := strings.Trim(value, "'"); !ok || key == "" || len(value) < 2 || value != "'"+inner+"'" || strings.ContainsAny(inner, "'$`\\;&|<>()\"\n") {
				t.Errorf("line %q means something to a shell", line)
			}
		}
		if len(l.DNS) > maxServers || len(l.Routes) > maxRoutes || !l.Address.IsValid() || l.Time < 0 {
			t.Errorf("%+v", l)
		}
		_ = l.String()
	})
}
