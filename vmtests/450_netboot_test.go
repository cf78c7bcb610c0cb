package vmtests

// The small base from an HTTP server.
//
//	machine   q35, 512 MiB, a virtio network card; kernel and initramfs of the output, but where iPXE or firmware fetch them
//	disks     none, but the cache of the case that has one
//	network   QEMU's user network; a tap with dnsmasq on it, in a network namespace, where the DHCP server is the point
//	console   the lease, the rate of each transfer, the steps "bring up network" and "copy images"

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"veneer/images"
	"veneer/stage"
	"veneer/vmtests/qemu"
)

func TestASetOfAServerBootsByALeaseOfDnsmasq(t *testing.T) {
	if !inNetwork(t) {
		return
	}
	out := netbootOutput(t)
	dnsmasq(t, "--dhcp-option=3,10.9.0.1", "--dhcp-option=6,10.9.0.1", "--domain=example.test", "--address=/store.example.test/10.9.0.1", "--dhcp-host=52:54:00:00:09:01,kiosk7", "--dhcp-option=26,1400")
	s := openShop(t, "10.9.0.1:80", out.file("netboot"), nil)
	vm := netVM(t, out, "http://store.example.test/", "ip=dhcp", "BOOTIF=01-52-54-00-00-09-01", "rd.neednet=1")
	vm.NICs = []string{"user,model=virtio-net-pci,restrict=on", tapNIC} // the first one has no server behind it, and a lease
	g := start(t, vm)
	g.expect(`eth1 \(52:54:00:00:09:01\) has 10\.9\.0\.\d+/24 by dhcp, gateway 10\.9\.0\.1, DNS 10\.9\.0\.1`)
	g.expect(`bring up network \.\.\. ok`)
	g.expect(`\d+ MiB were fetched and verified in `)
	g.expect(`copy images \.\.\. ok`)
	g.shell()
	s.close() // the server is gone, and the root does not notice
	rec := g.record()
	if len(rec.Degraded) != 0 || !rec.Verified.Manifest || !rec.Verified.Images || rec.Store.Reference != "http://store.example.test/" || rec.Store.FileSystem != "tmpfs" ||
		!strings.HasPrefix(rec.Network, "eth1 (52:54:00:00:09:01) has 10.9.0.") || rec.Deployment.Why != "the default of http://store.example.test/" {
		t.Errorf("the record says %+v, %+v, %+v, network %q, degraded %q", rec.Store, rec.Deployment, rec.Verified, rec.Network, rec.Degraded)
	}
	conf := g.run("cat /run/net-eth1.conf")
	for _, want := range []string{"DEVICE='eth1'\n", "PROTO='dhcp'\n", "IPV4ADDR='10.9.0.", "IPV4GATEWAY='10.9.0.1'\n", "IPV4DNS0='10.9.0.1'\n", "HOSTNAME='kiosk7'\n", "DNSDOMAIN='example.test'\n", "DHCPLEASETIME='120'\n"} {
		if !strings.Contains(conf, want) {
			t.Errorf("/run/net-eth1.conf has no %q:\n%s", want, conf)
		}
	}
	if got := g.run("cat /run/veneer/resolv.conf"); !strings.Contains(got, "nameserver 10.9.0.1\n") {
		t.Errorf("/run/veneer/resolv.conf: %s", got)
	}
	if up := strings.TrimSpace(g.run("cat /sys/class/net/eth1/operstate /sys/class/net/eth1/mtu /sys/class/net/eth0/operstate")); up != "up\n1400\ndown" {
		t.Errorf("eth1 is %q; want it up, with an MTU of 1400, and eth0 left down", up)
	}
	if mounts := g.run("cat /proc/mounts"); !regexp.MustCompile(`(?m)^veneer-store /run/initramfs/veneer/store tmpfs ro,nosuid,nodev,noexec`).MatchString(mounts) {
		t.Errorf("the store in memory is not read-only:\n%s", mounts)
	}
	g.run("cat /noise > /dev/null") // each block through dm-verity
	g.off()
}

// layer is the largest image of an output.
func layer(t *testing.T, out output) images.Image {
	t.Helper()
	var largest images.Image
	for _, img := range out.manifest(t).Images {
		if img.Size > largest.Size {
			largest = img
		}
	}
	return largest
}

// part sends the first n bytes of what is left of a file from the byte that a request asks for, as a server does that knows ranges, and
// says that all of it will come.
func part(w http.ResponseWriter, r *http.Request, file string, n int64) {
	content, err := os.ReadFile(file)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	from := int64(0)
	if at, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
		from, _ = strconv.ParseInt(strings.TrimSuffix(at, "-"), 10, 64) // our client's
		w.Header().Set("Content-Range", "bytes "+strconv.FormatInt(from, 10)+"-"+strconv.Itoa(len(content)-1)+"/"+strconv.Itoa(len(content)))
	}
	w.Header().Set("Content-Length", strconv.FormatInt(int64(len(content))-from, 10))
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	_, _ = w.Write(content[from:min(int64(len(content)), from+n)]) // a client that went is none of ours
	_ = http.NewResponseController(w).Flush()
}

func TestAServerThatStallsTruncatesOrLies(t *testing.T) {
	t.Parallel()
	out := netbootOutput(t)
	img := layer(t, out)
	t.Run("what stalls and breaks off is resumed", func(t *testing.T) {
		t.Parallel()
		var images, manifests atomic.Int32
		s := openShop(t, "127.0.0.1:0", out.file("netboot"), func(w http.ResponseWriter, r *http.Request, file string) bool {
			switch {
			case strings.HasSuffix(r.URL.Path, "manifest.json") && manifests.Add(1) == 1:
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			case strings.HasSuffix(r.URL.Path, img.ID+".img"):
				switch images.Add(1) {
				case 1:
					part(w, r, file, 6<<20)
					<-r.Context().Done()
					return true
				case 2:
					part(w, r, file, 6<<20)
					panic(http.ErrAbortHandler)
				}
			}
			return false
		})
		g := start(t, netVM(t, out, s.guestURL()))
		g.expect(`manifest\.json: the server answers 503 Service Unavailable; trying again`)
		g.expect(`no byte came for a while \(10s\); trying again`)
		g.expect(`unexpected EOF; trying again`)
		g.expect(`copy images \.\.\. ok`)
		g.shell()
		asked := s.requests(img.ID + ".img")
		if len(asked) != 3 || !strings.HasSuffix(asked[1], " bytes=6291456-") || !strings.HasSuffix(asked[2], " bytes=12582912-") {
			t.Errorf("asked for %q, want the whole, then the rest from 6 MiB, then from 12 MiB", asked)
		}
		g.off()
	})
	t.Run("a wrong byte is refused by the name of its file", func(t *testing.T) {
		t.Parallel()
		wrong := read(t, filepath.Join(out.file("netboot"), "images", img.ID+".img"))
		wrong[len(wrong)/2] ^= 1
		s := openShop(t, "127.0.0.1:0", out.file("netboot"), func(w http.ResponseWriter, r *http.Request, _ string) bool {
			if !strings.HasSuffix(r.URL.Path, img.ID+".img") {
				return false
			}
			_, _ = w.Write(wrong) // as above
			return true
		})
		g := start(t, netVM(t, out, s.guestURL()))
		g.failed(stage.StepCopyImages, `layer "noise": `+regexp.QuoteMeta(s.guestURL())+`images/`+img.ID+`\.img: image `+img.ID+`: the content does not match its hash`)
		g.ends(qemu.Reset)
	})
	t.Run("a manifest that nobody signed is refused before it is parsed", func(t *testing.T) {
		t.Parallel()
		s := openShop(t, "127.0.0.1:0", out.file("netboot"), func(w http.ResponseWriter, r *http.Request, file string) bool {
			if !strings.HasSuffix(r.URL.Path, "manifest.json") {
				return false
			}
			_, _ = w.Write(replaced(t, read(t, file), `"version": "1.2"`, `"version": "1.3"`)) // as above
			return true
		})
		g := start(t, netVM(t, out, s.guestURL()))
		g.failed(stage.StepCheckManifest, `signature does not match`)
		g.ends(qemu.Reset)
	})
	t.Run("images that do not fit are refused before a byte of them is fetched", func(t *testing.T) {
		t.Parallel()
		s := openShop(t, "127.0.0.1:0", out.file("netboot"), nil)
		vm := netVM(t, out, s.guestURL())
		vm.MemoryMiB = 192
		g := start(t, vm)
		g.failed(stage.StepCopyImages, `the images do not fit: images of \d+ MiB, 32 MiB for the upper and 96 MiB to work with come to \d+ MiB of memory, and \d+ MiB are available`)
		g.ends(qemu.Reset)
		if asked := s.requests(".img"); len(asked) > 0 {
			t.Errorf("images were asked for all the same: %q", asked)
		}
	})
}

func TestADownloadThatAPowerCutEndedIsResumedInTheCache(t *testing.T) {
	t.Parallel()
	out := netbootOutput(t)
	img := layer(t, out)
	disk := blank(t, "cache.img", 128)
	must(t, "", "mke2fs", "-q", "-F", "-t", "ext4", "-L", "CACHE", disk)
	sent := make(chan struct{})
	var requests atomic.Int32
	s := openShop(t, "127.0.0.1:0", out.file("netboot"), func(w http.ResponseWriter, r *http.Request, file string) bool {
		if strings.HasSuffix(r.URL.Path, img.ID+".img") && requests.Add(1) == 1 {
			part(w, r, file, 18<<20)
			close(sent)
			<-r.Context().Done()
			return true
		}
		return false
	})
	vm := netVM(t, out, s.guestURL(), "veneer.cache=LABEL=CACHE")
	vm.Disks = []qemu.Disk{{Path: disk, Bus: qemu.VirtioBlk}}
	g := start(t, vm)
	select {
	case <-sent:
	case <-time.After(patience):
		t.Fatal("the image was not asked for")
	}
	g.expect(`no byte came for a while`) // all that was sent has arrived
	g.cut()

	g = start(t, vm)
	at := g.expect(`layer "noise": (\d+) MiB are there already`)[1]
	if n, _ := strconv.Atoi(at); n < 8 || n > 18 {
		t.Errorf("%s MiB were there after 18 were sent", at)
	}
	g.expect(`copy images \.\.\. ok`)
	g.shell()
	if last := s.requests(img.ID + ".img"); !strings.Contains(last[len(last)-1], " bytes=") {
		t.Errorf("asked for %q; want the rest of the image only", last)
	}
	g.run("ls /run/veneer/store/deployments/1/manifest.json /run/veneer/store/default")
	g.off()

	before := len(s.requests(".img"))
	g = start(t, vm)
	g.shell()
	if after := len(s.requests(".img")); after != before {
		t.Errorf("%d images were fetched although the cache held them", after-before)
	}
	g.off()

	s.close()
	vm.Append = append(vm.Append, "veneer.wait=5")
	g = start(t, vm)
	g.expect(`degraded: the set in the cache is booted: ` + regexp.QuoteMeta(s.guestURL()) + ` was not reached: `)
	g.shell()
	g.off()
}

func TestIPXEBootsByTheScriptOfTheOutput(t *testing.T) {
	t.Parallel()
	out := netbootOutput(t)
	s := openShop(t, "127.0.0.1:0", out.file("netboot"), nil)
	tftp := t.TempDir()
	chain := "#!ipxe\nset base " + s.guestURL() + "\nchain ${base}boot.ipxe\n"
	if err := os.WriteFile(filepath.Join(tftp, "first.ipxe"), []byte(chain), 0o644); err != nil {
		t.Fatal(err)
	}
	script := read(t, filepath.Join(out.file("netboot"), "boot.ipxe"))
	if !strings.Contains(string(script), "veneer.url=${base}") {
		t.Errorf("the script:\n%s", script)
	}
	vm := qemu.VM{Arch: "amd64", MemoryMiB: 512, NICs: []string{userNIC + ",tftp=" + tftp + ",bootfile=first.ipxe"}}
	g := start(t, vm)
	g.expect(`copy images \.\.\. ok`)
	g.shell()
	if line := g.run("cat /proc/cmdline"); !strings.Contains(line, "BOOTIF=01-52-54-00-12-34-56") {
		t.Errorf("the command line is %q", line)
	}
	g.off()
}
