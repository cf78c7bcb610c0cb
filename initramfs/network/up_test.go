package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"veneer/boot/network"
)

// inside says that this process is the one with a network of its own.
const inside = "VENEER_TEST_NETWORK"

// TestMain runs the tests in a network namespace of their own, where there is nothing but what they make.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

func needNetwork(t *testing.T) {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Skip("a network namespace takes root: run the tests as root")
	}
	for program, pkg := range map[string]string{"dnsmasq": "dnsmasq-base", "ip": "iproute2"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed: apt-get install %s", program, pkg)
		}
	}
}

func run(t *testing.T, words ...string) {
	t.Helper()
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(words, " "), err, out)
	}
}

// wire makes an interface whose other end lies in a namespace where script runs.
func wire(t *testing.T, name, mac, script string) {
	t.Helper()
	if script == "" {
		script = "read forever"
	}
	server := exec.Command("sh", "-c", "read go && ip link set peer up && "+script)
	server.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	in, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	server.Stdout, server.Stderr = os.Stderr, os.Stderr
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := server.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = server.Wait() // it was killed
	})
	run(t, "ip", "link", "add", name, "address", mac, "type", "veth", "peer", "name", "peer", "netns", strconv.Itoa(server.Process.Pid))
	t.Cleanup(func() { run(t, "ip", "link", "del", name) })
	if _, err := io.WriteString(in, "go\n"); err != nil {
		t.Fatal(err)
	}
}

// dnsmasq is a script that serves DHCP.
func dnsmasq(addr string, options ...string) string {
	return "ip address add " + addr + " dev peer && exec dnsmasq --keep-in-foreground --no-daemon --conf-file=/dev/null --port=0 --interface=peer --bind-interfaces " +
		"--dhcp-leasefile=/dev/null --log-facility=- --quiet-dhcp --no-ping --dhcp-authoritative " + strings.Join(options, " ") + " 2>/dev/null"
}

func config(t *testing.T, line string) network.Config {
	t.Helper()
	var c network.Config
	for _, w := range strings.Fields(line) {
		name, value, _ := strings.Cut(w, "=")
		if _, err := c.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func up(t *testing.T, line string, wait time.Duration) (Lease, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	return Up(ctx, config(t, line), func(string) {})
}

func TestALeaseOfARealServerIsTakenWhole(t *testing.T) {
	needNetwork(t)
	wire(t, "eth0", "52:54:00:00:00:01", dnsmasq("10.9.0.1/24", "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,1h", "--dhcp-option=3,10.9.0.1",
		"--dhcp-option=6,10.9.0.1,10.9.0.2", "--dhcp-option=26,1400", "--dhcp-option=42,10.9.0.3", "--domain=example.org", "--dhcp-option=119,a.example,b.example",
		"--dhcp-option=121,10.77.0.0/16,10.9.0.7,0.0.0.0/0,10.9.0.1", "--dhcp-host=52:54:00:00:00:01,kiosk7"))
	l, err := up(t, "ip=dhcp", 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if l.Device != "eth0" || l.Hostname != "kiosk7" || l.Domain != "example.org" || l.MTU != 1400 || l.Time != time.Hour || l.Gateway != netip.MustParseAddr("10.9.0.1") ||
		fmt.Sprint(l.DNS, l.NTP, l.Search, l.Routes, l.Server) != "[10.9.0.1 10.9.0.2] [10.9.0.3] [a.example b.example] [{10.77.0.0/16 10.9.0.7}] 10.9.0.1" {
		t.Errorf("lease %+v", l)
	}
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil || len(addrs) != 1 || addrs[0].IPNet.String() != l.Address.String() || link.Attrs().MTU != 1400 {
		t.Errorf("addresses %v, %v, MTU %d", addrs, err, link.Attrs().MTU)
	}
	out, err := exec.Command("ip", "route").Output()
	for _, want := range []string{"default via 10.9.0.1 dev eth0", "10.77.0.0/16 via 10.9.0.7 dev eth0", "10.9.0.0/24 dev eth0"} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("no route %q in:\n%s", want, out)
		}
	}
}

func TestTheInterfaceThatAnswersIsTheOneAndTheOthersAreLeft(t *testing.T) {
	needNetwork(t)
	wire(t, "eth0", "52:54:00:00:00:01", "") // a carrier and no server
	wire(t, "eth1", "52:54:00:00:00:02", dnsmasq("10.9.1.1/24", "--dhcp-range=10.9.1.50,10.9.1.60,255.255.255.0,1h"))
	l, err := up(t, "", 20*time.Second)
	if err != nil || l.Device != "eth1" {
		t.Fatalf("%+v, %v, want a lease on eth1", l, err)
	}
	for name, want := range map[string]bool{"eth0": false, "eth1": true} {
		link, err := netlink.LinkByName(name)
		if err != nil || (link.Attrs().RawFlags&syscall.IFF_UP != 0) != want {
			t.Errorf("%s up = %v, %v, want %v", name, !want, err, want)
		}
	}
}

func TestAnInterfaceThatAppearsLateIsTaken(t *testing.T) {
	needNetwork(t)
	got := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	said := make(chan string, 64)
	wire(t, "eth0", "52:54:00:00:00:01", "")
	go func() {
		l, err := Up(ctx, network.Config{}, func(line string) { said <- line })
		if err == nil && l.Device != "eth1" {
			err = fmt.Errorf("lease on %s", l.Device)
		}
		got <- err
	}()
	for line := range said { // eth0 is being asked: the other comes now
		if strings.Contains(line, "by DHCP") {
			break
		}
	}
	wire(t, "eth1", "52:54:00:00:00:02", dnsmasq("10.9.1.1/24", "--dhcp-range=10.9.1.50,10.9.1.60,255.255.255.0,1h"))
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestBOOTIFAndNamesDecideWhichInterface(t *testing.T) {
	needNetwork(t)
	wire(t, "eth0", "52:54:00:00:00:01", dnsmasq("10.9.0.1/24", "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,1h"))
	wire(t, "eth1", "52:54:00:00:00:02", dnsmasq("10.9.1.1/24", "--dhcp-range=10.9.1.50,10.9.1.60,255.255.255.0,1h"))
	for line, want := range map[string]string{"BOOTIF=01-52-54-00-00-00-02": "eth1", "BOOTIF=01-52-54-00-00-00-01 ip=dhcp": "eth0", "ip=eth1:dhcp": "eth1", "ip=eth0:off ip=dhcp": "eth1",
		"ip=:::::eth0:dhcp": "eth0", "ip=eth9:dhcp::52:54:00:00:00:02 ip=eth0:off": ""} {
		l, err := up(t, line, map[bool]time.Duration{true: 20 * time.Second, false: time.Second}[want != ""])
		if want == "" {
			if !errors.Is(err, ErrNoNetwork) || !strings.Contains(err.Error(), "eth0 (52:54:00:00:00:01): not asked for") {
				t.Errorf("%s: %+v, %v, want none, and each interface with its reason", line, l, err)
			}
		} else if err != nil || l.Device != want {
			t.Errorf("%s: %s, %v, want %s", line, l.Device, err, want)
		}
		run(t, "ip", "link", "set", "eth0", "down")
		run(t, "ip", "link", "set", "eth1", "down")
	}
}

func TestAnAddressThatIsGivenIsSetWithItsRoute(t *testing.T) {
	needNetwork(t)
	wire(t, "eth0", "52:54:00:00:00:01", "")
	l, err := up(t, "ip=10.9.0.9::10.9.1.1:255.255.255.0:box:eth0:off:10.9.0.2 nameserver=10.9.0.3", 5*time.Second)
	if err != nil || l.Method != network.Static || l.Hostname != "box" || fmt.Sprint(l.DNS) != "[10.9.0.3 10.9.0.2]" {
		t.Fatalf("%+v, %v", l, err)
	}
	out, err := exec.Command("ip", "route").Output()
	if err != nil || !strings.Contains(string(out), "default via 10.9.1.1 dev eth0 onlink") {
		t.Errorf("a gateway outside the net, and no route by it: %v\n%s", err, out)
	}
}

func TestARouterAdvertisesANetwork(t *testing.T) {
	needNetwork(t)
	wire(t, "eth0", "52:54:00:00:00:01", "ip address add fd09::1/64 dev peer nodad && exec dnsmasq --keep-in-foreground --no-daemon --conf-file=/dev/null --port=0 --interface=peer "+
		"--enable-ra --ra-param=peer,4,1200 --dhcp-range=fd09::,ra-only,64,1h --dhcp-leasefile=/dev/null --log-facility=- 2>/dev/null")
	l, err := up(t, "ip=auto6", 30*time.Second)
	if err != nil || l.Method != network.Auto6 || !netip.MustParsePrefix("fd09::/64").Contains(l.Address.Addr()) {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestWithoutAnswerEachInterfaceHasItsReason(t *testing.T) {
	needNetwork(t)
	if _, err := up(t, "", 200*time.Millisecond); !errors.Is(err, ErrNoNetwork) || !strings.Contains(err.Error(), "no interface appeared") {
		t.Errorf("no interface at all: %v", err)
	}
	wire(t, "eth0", "52:54:00:00:00:01", "")
	wire(t, "eth1", "52:54:00:00:00:02", "ip link set peer down && read forever")
	_, err := up(t, "", 2*time.Second)
	for _, want := range []string{"eth0 (52:54:00:00:00:01): no", "carrier"} {
		if !errors.Is(err, ErrNoNetwork) || !strings.Contains(err.Error(), want) {
			t.Errorf("Up() = %v, want %q", err, want)
		}
	}
}
