package vmtests

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"veneer/vmtests/qemu"
)

// netbootOutput is the small base for netboot, with a layer that is large enough to be cut off in.
func netbootOutput(t *testing.T) output {
	t.Helper()
	if dir := os.Getenv(insideNetwork); dir != "" { // made by the process outside, where others may be making theirs
		return output{dir: dir}
	}
	r := smallRecipe(t, "netboot", "outputs = [\"netboot\"]\nrescue-shell = false")
	r.toml += "[[layers]]\nname = \"noise\"\nsource = \"noise.tar\"\n"
	r.files["noise.tar"] = noiseTar(t)
	return outputOf(t, r)
}

func noiseTar(t *testing.T) string {
	t.Helper()
	return shared.make(t, "noise", func() (path string, err error) {
		path = filepath.Join(shared.scratch, "noise.tar")
		f, err := os.Create(path)
		if err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		w := tar.NewWriter(f)
		for _, h := range []tar.Header{{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "./noise", Mode: 0o644, Size: noiseSize}} {
			h.ModTime = time.Unix(1700000000, 0)
			if err := w.WriteHeader(&h); err != nil {
				return "", err
			}
		}
		if _, err := io.CopyN(w, rand.NewChaCha8([32]byte{45}), noiseSize); err != nil {
			return "", err
		}
		return path, w.Close()
	})
}

// shop serves a directory over HTTP, after meddle, which may be nil, has had a look at the request, and keeps a list of what was asked.
type shop struct {
	url    string // as this host has it
	port   string
	server *http.Server
	mu     sync.Mutex
	asked  []string // PATH, and the range that was asked for
}

// meddler answers a request itself, or returns false.
type meddler func(w http.ResponseWriter, r *http.Request, file string) bool

func openShop(t *testing.T, address, dir string, meddle meddler) *shop {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{url: "http://" + l.Addr().String() + "/", port: port}
	files := http.FileServer(http.Dir(dir))
	s.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, strings.TrimSpace(r.URL.Path+" "+r.Header.Get("Range")))
		s.mu.Unlock()
		if meddle == nil || !meddle(w, r, filepath.Join(dir, filepath.FromSlash(r.URL.Path))) {
			files.ServeHTTP(w, r)
		}
	})}
	go func() { _ = s.server.Serve(l) }() // ends with close
	t.Cleanup(s.close)
	return s
}

func (s *shop) close() { _ = s.server.Close() }

// requests are those for what ends in suffix.
func (s *shop) requests(suffix string) (asked []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.asked {
		if path, _, _ := strings.Cut(a, " "); strings.HasSuffix(path, suffix) {
			asked = append(asked, a)
		}
	}
	return asked
}

// guestURL is the shop as a guest behind QEMU's user network has it.
func (s *shop) guestURL() string { return "http://10.0.2.2:" + s.port + "/" }

// userNIC is a card behind QEMU's user network, whose DHCP server it is.
const userNIC = "user,model=virtio-net-pci,mac=52:54:00:12:34:56"

// netVM is a machine without a disk that is to boot what a shop has.
func netVM(t *testing.T, out output, url string, words ...string) qemu.VM {
	t.Helper()
	vm := out.vm(t, "", append([]string{"veneer.url=" + url}, words...)...)
	vm.NICs = []string{userNIC}
	return vm
}

// insideNetwork is set, to the output, in the process that has a network of its own.
const insideNetwork = "VENEER_TEST_NETWORK"

// inNetwork runs a test again in a process with a network of its own, and reports whether this is that process. In it there are lo and a
// tap, vmtap, with the address 10.9.0.1/24.
func inNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideNetwork) != "" {
		for _, line := range []string{"ip link set lo up", "ip tuntap add dev vmtap mode tap", "ip address add 10.9.0.1/24 dev vmtap", "ip link set vmtap up"} {
			if out, err := exec.Command("sh", "-c", line).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", line, err, out)
			}
		}
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("a network namespace takes root: run the tests as root")
	}
	out := netbootOutput(t)
	shared.places <- struct{}{}
	defer func() { <-shared.places }()
	ctx, cancel := context.WithTimeout(context.Background(), lifetime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v=true")
	cmd.Env = append(os.Environ(), insideNetwork+"="+out.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	said, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(said), "--- PASS: "+t.Name()) {
		t.Fatalf("in a network of its own: %v\n%s", err, said)
	}
	return false
}

// tapNIC is a card on the tap.
const tapNIC = "tap,ifname=vmtap,script=no,downscript=no,model=virtio-net-pci,mac=52:54:00:00:09:01"

// dnsmasq runs a real DHCP and DNS server on the tap.
func dnsmasq(t *testing.T, options ...string) {
	t.Helper()
	args := append([]string{"--keep-in-foreground", "--conf-file=/dev/null", "--interface=vmtap", "--bind-interfaces", "--no-resolv", "--no-hosts", "--dhcp-leasefile=/dev/null",
		"--log-facility=-", "--log-dhcp", "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,2m"}, options...)
	cmd := exec.Command("dnsmasq", args...)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(fmt.Errorf("%w: apt-get install dnsmasq-base", err))
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("dnsmasq:\n%s", said.String())
		}
	})
}
