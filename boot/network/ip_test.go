package network

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var comparable = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestEachFormOfIP(t *testing.T) {
	mac := MAC{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	for _, c := range []struct {
		name, value string
		want        Link
	}{
		{"a word is a method", "dhcp", Link{Method: DHCP}},
		{"on is DHCP", "on", Link{Method: DHCP}},
		{"any is DHCP", "any", Link{Method: DHCP}},
		{"nothing is DHCP, as the kernel has it", "", Link{Method: DHCP}},
		{"off leaves the network alone", "off", Link{Method: Off}},
		{"router advertisements", "auto6", Link{Method: Auto6}},
		{"an address alone has the mask of its class", "10.0.0.5", Link{Method: Static, Address: netip.MustParsePrefix("10.0.0.5/8")}},
		{"dracut's short form", "eth0:dhcp", Link{Device: "eth0", Method: DHCP}},
		{"dracut's short form with an MTU", "eth0:dhcp:9000", Link{Device: "eth0", Method: DHCP, MTU: 9000}},
		{"dracut's short form with a MAC", "eth0:dhcp::52:54:00:12:34:56", Link{Device: "eth0", Method: DHCP, MAC: mac}},
		{"the kernel's form, all of it", "192.168.1.2:192.168.1.1:192.168.1.254:255.255.255.0:kiosk:eth1:off:1.1.1.1:8.8.8.8:192.168.1.3",
			Link{Device: "eth1", Method: Static, Address: netip.MustParsePrefix("192.168.1.2/24"), Server: addr("192.168.1.1"), Gateway: addr("192.168.1.254"),
				Hostname: "kiosk", DNS: []netip.Addr{addr("1.1.1.1"), addr("8.8.8.8")}, NTP: addr("192.168.1.3")}},
		{"the kernel's form, cut short", "192.168.1.2::192.168.1.254", Link{Method: Static, Address: netip.MustParsePrefix("192.168.1.2/24"), Gateway: addr("192.168.1.254")}},
		{"the kernel's form with a device alone", ":::::eth0:dhcp", Link{Device: "eth0", Method: DHCP}},
		{"the kernel's form with a name for the server", "::::kiosk::dhcp", Link{Hostname: "kiosk", Method: DHCP}},
		{"a mask in bits", "172.16.0.2:::12::eth0:none", Link{Device: "eth0", Method: Static, Address: netip.MustParsePrefix("172.16.0.2/12")}},
		{"no first DNS server, but a second", "172.16.0.2:::12::eth0:none::9.9.9.9", Link{Device: "eth0", Method: Static, Address: netip.MustParsePrefix("172.16.0.2/12"), DNS: []netip.Addr{addr("9.9.9.9")}}},
		{"dracut's long form with MTU and MAC", "172.16.0.2:::12::eth0:none:1400:52:54:00:12:34:56",
			Link{Device: "eth0", Method: Static, Address: netip.MustParsePrefix("172.16.0.2/12"), MTU: 1400, MAC: mac}},
		{"IPv6 stands in brackets", "[fd00::2]::[fd00::1]:64::eth0:none:[fd00::53]", Link{Device: "eth0", Method: Static, Address: netip.MustParsePrefix("fd00::2/64"),
			Gateway: addr("fd00::1"), DNS: []netip.Addr{addr("fd00::53")}}},
		{"0.0.0.0 is nothing", "0.0.0.0:::::eth0:dhcp", Link{Device: "eth0", Method: DHCP}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseIP(c.value)
			if err != nil {
				t.Fatalf("ParseIP(%q): %v", c.value, err)
			}
			if diff := cmp.Diff(c.want, got, comparable); diff != "" {
				t.Errorf("ParseIP(%q) (-want +got):\n%s", c.value, diff)
			}
		})
	}
}

func TestWhatIPCannotMeanIsRefused(t *testing.T) {
	for value, want := range map[string]string{
		"dchp":                                "no method",
		"rarp":                                "write dhcp",
		"dhcp6":                               "DHCPv6",
		"eth0:dhcp:12":                        "MTU",
		"eth0:dhcp::52:54:00":                 "hardware address",
		"a/b:dhcp":                            "no name of an interface",
		"averylonginterfacename:dhcp":         "no name of an interface",
		"10.0.0.300:::::eth0:off":             "no IPv4 address",
		"10.0.0.3:::255.0.255.0::eth0:off":    "ones are not all in front",
		"10.0.0.3:::33::eth0:off":             "netmask",
		"10.0.0.3::x:8::eth0:off":             "gateway",
		"10.0.0.3::[fd00::1]:8::eth0:off":     "family",
		"10.0.0.3:::8:a b:eth0:off":           "host name",
		"10.0.0.3:::8::eth0:off:1.1.1.1:2:3:": "fields behind",
		"[fd00::1":                            "bracket",
		"::10.0.0.1:::eth0:off":               "no address",
	} {
		if l, err := ParseIP(value); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseIP(%q) = %+v, %v, want an error with %q", value, l, err, want)
		}
	}
}

func TestBOOTIFIsPXELinuxsOrABareAddress(t *testing.T) {
	want := MAC{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	for _, s := range []string{"01-52-54-00-12-34-56", "52-54-00-12-34-56", "52:54:00:12:34:56", "01:52:54:00:12:34:56"} {
		if got, err := ParseBOOTIF(s); err != nil || got != want {
			t.Errorf("ParseBOOTIF(%q) = %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "20-52-54-00-12-34-56", "52-54-00-12-34", "00-00-00-00-00-00", "52:54:00:12:34:5g", "0152540012345600000"} {
		if got, err := ParseBOOTIF(s); err == nil {
			t.Errorf("ParseBOOTIF(%q) = %v, want an error", s, got)
		}
	}
}

func TestAddressOfAStore(t *testing.T) {
	for in, want := range map[string]string{"http://h/a": "http://h/a/", "http://h:8000/": "http://h:8000/", "http://h": "http://h/", "http://[fd00::1]/x/": "http://[fd00::1]/x/"} {
		if got, err := ParseURL(in); err != nil || got != want {
			t.Errorf("ParseURL(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]string{"https://h/": "https is not supported", "ftp://h/": "want http://", "http://u:p@h/": "password", "http:///x": "want http://", "http://h/?q": "neither ? nor #",
		"http://h/#f": "neither ? nor #", "h/x": "want http://", "http:h": "want http://", "http://h/\n": "want http://", "http://:80/": "want http://"} {
		if got, err := ParseURL(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseURL(%q) = %q, %v, want an error with %q", in, got, err, want)
		}
	}
}

func TestContradictionsAreToldBeforeTheBoot(t *testing.T) {
	for line, want := range map[string]string{
		"veneer.url=http://h/ ip=off":                                           "needs one",
		"veneer.cache=LABEL=X":                                                  "there is none",
		"veneer.url=http://h/ ip=eth0:dhcp ip=eth0:off":                         "twice for eth0",
		"veneer.url=http://h/ ip=dhcp rd.neednet=1 BOOTIF=01-52-54-00-12-34-56": "",
		"veneer.url=http://h/ ip=eth0:dhcp ip=eth0:auto6":                       "",
		"ip=off": "",
	} {
		var c Config
		for _, w := range strings.Fields(line) {
			name, value, _ := strings.Cut(w, "=")
			if ours, err := c.Set(name, value); !ours || err != nil {
				t.Fatalf("Set(%q, %q) = %v, %v", name, value, ours, err)
			}
		}
		if err := c.Check(); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: Check() = %v, want %q", line, err, want)
		}
	}
}

func FuzzParseIP(f *testing.F) {
	for _, s := range []string{"dhcp", "0.0.0.0", "eth0:dhcp:1500:52:54:00:12:34:56", "192.168.1.2:192.168.1.1:192.168.1.254:255.255.255.0:kiosk:eth1:off:1.1.1.1:8.8.8.8:192.168.1.3", "[fd00::2]::[fd00::1]:64::eth0:none"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseIP(s)
		if err != nil {
			return
		}
		if (l.Method == Static) != l.Address.IsValid() {
			t.Errorf("ParseIP(%q) = %+v: an address and a method that do not fit", s, l)
		}
		if l.Hostname != "" && !IsName(l.Hostname) || len(l.Device) > maxDevice || len(l.DNS) > 2 {
			t.Errorf("ParseIP(%q) = %+v", s, l)
		}
	})
}
