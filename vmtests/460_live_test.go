package vmtests

// The init variant live: images copied to memory, media that are files, a medium that is pulled out.
//
//	machine   q35, 512 MiB; the full kernel where a stick or a CD is pulled out, since the cloud kernel has neither USB nor SATA
//	disks     a stick, a CD, or virtio disks that cannot be written
//	console   the progress of the copy, "the medium may be removed", and after that a system that has all of its files

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"veneer/vmtests/disks"
	"veneer/vmtests/qemu"
)

// liveNoise is what the layer of the live recipe weighs.
const liveNoise = 24 << 20

// live is a set with a layer of some weight, and the init variant live.
func live(t *testing.T, kernel, more string) output {
	t.Helper()
	name := "small-live-" + kernel
	if more != "" {
		name += "-more"
	}
	r := smallRecipe(t, name, "variant = \"live\"\n[[layers]]\nname = \"noise\"\nsource = \"noise.tar\"\n")
	r.toml = strings.Replace(r.toml, "[root]\n", "[root]\n"+more, 1)
	r.files["noise.tar"] = archive(t, "live", file{"opt/noise", string(noise(liveNoise))})
	r.files["kernel.deb"] = kernelDeb(t, "amd64", kernel)
	return outputOf(t, r)
}

// imageBytes is what all images of a set weigh.
func (o output) imageBytes(t *testing.T) (sum int64) {
	for _, img := range o.manifest(t).Images {
		sum += img.Size
	}
	return sum
}

// bytesRead is how many bytes the guest has read of a disk.
func (g *guest) bytesRead(disk string) int64 {
	g.t.Helper()
	for _, line := range strings.Split(g.run("cat /proc/diskstats"), "\n") {
		if f := strings.Fields(line); len(f) > 5 && f[2] == disk {
			n, err := strconv.ParseInt(f[5], 10, 64)
			if err != nil {
				g.t.Fatal(err)
			}
			return n * 512
		}
	}
	g.t.Fatalf("the guest has no disk %s", disk)
	return 0
}

// readAll checks that everything that the set has can be read, and not from the page cache.
func (g *guest) readAll() {
	g.t.Helper()
	g.run("echo 3 > /proc/sys/vm/drop_caches")
	g.run("cat /opt/noise /bbin/bb > /dev/null")
	g.run("veneer why /bbin/bb")
}

func TestImagesThatAreInMemoryOutliveTheirStick(t *testing.T) {
	t.Parallel()
	out := live(t, "full", "")
	vm := out.vm(t, "", "veneer.toram", "veneer.medium-lost=poweroff")
	vm.Disks = []qemu.Disk{{Path: out.disk(), Bus: qemu.USB, ReadOnly: true}}
	g := start(t, vm)
	g.expect(`veneer: copying to memory: images of \d+ MiB, up to \d+ MiB for the upper and 96 MiB to work with, and \d+ MiB are available`)
	g.expect(`veneer: copying to memory: \d+ MiB in [0-9.]+m?s, [0-9.]+ MB/s`)
	g.expect(`veneer: the images are in memory: the medium \(/dev/sda\) may be removed`)
	g.shell()
	if got, want := g.bytesRead("sda"), out.imageBytes(t); got < want || got > want+want/20+4<<20 {
		t.Errorf("%d bytes were read of the stick, for images of %d: once is what it takes", got, want)
	}
	if text := g.run("veneer status"); !contains(text, `Store +LABEL=VENEER is /dev/sda \(ext4\), released`) || !contains(text, `Memory +yes, .* the medium may be removed`) || !contains(text, `Degraded +no`) {
		t.Errorf("veneer status does not tell of a copy in memory:\n%s", text)
	}
	if text := g.run("cat /proc/mounts"); contains(text, `/dev/sda`) || !contains(text, `veneer-images /run/initramfs/veneer/store tmpfs ro`) {
		t.Errorf("the stick is mounted still, or its copy is not in its place:\n%s", text)
	}
	g.run("echo 7 > /proc/sys/kernel/printk")
	if err := g.Unplug(g.ctx, 0); err != nil {
		t.Fatal(err)
	}
	g.expect(`usb [0-9-]+: USB disconnect`)
	g.send("")
	g.shell()
	g.readAll()
	g.run("veneer diff")
	g.leave("poweroff", "poweroff", qemu.PoweredOff)
	g.never(`veneer: the medium .* is gone`)
}

func TestImagesThatAreInMemoryOutliveTheirCDAndTheTrayOpens(t *testing.T) {
	t.Parallel()
	out := live(t, "full", "")
	vm := out.vm(t, "", "veneer.toram=yes,eject")
	vm.Disks = []qemu.Disk{{Path: iso9660(t, out.store(t, "veneer").dir, label), Bus: qemu.CDROM}}
	g := start(t, vm)
	g.expect(`veneer: the images are in memory: the medium \(/dev/sr0\) may be removed`)
	g.shell()
	if open, err := g.TrayOpen(g.ctx, 0); err != nil || !open {
		t.Errorf("the tray is open: %v, %v", open, err)
	}
	if got, want := g.bytesRead("sr0"), out.imageBytes(t); got < want || got > want+want/20+4<<20 {
		t.Errorf("%d bytes were read of the CD, for images of %d: once is what it takes", got, want)
	}
	if err := g.Eject(g.ctx, 0); err != nil {
		t.Fatal(err)
	}
	g.readAll()
	g.leave("poweroff", "poweroff", qemu.PoweredOff)
}

func TestACopyThatDoesNotFitIsRefusedWithItsNumbersOrNotMade(t *testing.T) {
	t.Parallel()
	out := live(t, "cloud", "toram = \"auto\"\n")
	for name, c := range map[string]struct {
		words []string
		fails bool
	}{
		"yes":                         {[]string{"veneer.toram"}, true},
		"auto, as the initramfs says": {nil, false},
		"an upper that is promised":   {[]string{"veneer.toram=yes", "veneer.upper=tmpfs:size=400M"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vm := out.vm(t, out.disk(), c.words...)
			if len(c.words) < 2 {
				vm.MemoryMiB = 224
			}
			g := start(t, vm)
			if c.fails {
				g.failed("copy images", `the images do not fit: images of \d+ MiB, \d+ MiB for the upper and 96 MiB to work with come to \d+ MiB of memory, and \d+ MiB are available`)
				g.ends(qemu.Reset)
				g.never(`copying to memory`, `Out of memory`)
				return
			}
			g.expect(`veneer: the images stay on the medium: the images do not fit: images of \d+ MiB`)
			g.shell()
			if text := g.run("veneer status"); !contains(text, `Memory +no, the images stay on the medium: the images do not fit`) || !contains(text, `Degraded +no`) {
				t.Errorf("veneer status does not tell why nothing was copied:\n%s", text)
			}
			g.leave("poweroff", "poweroff", qemu.PoweredOff)
		})
	}
}

func TestAWrongByteIsRefusedWhileItIsCopied(t *testing.T) {
	t.Parallel()
	out := live(t, "cloud", "")
	s := out.store(t, "veneer")
	id := ""
	for _, img := range out.manifest(t).Images {
		if img.Name == "noise" {
			id = img.ID
		}
	}
	const at = 3000
	s.flip("images/"+id+".img", at*4096+5)
	g := start(t, out.vm(t, ext4(t, s.dir, label), "veneer.toram"))
	g.failed("copy images", fmt.Sprintf(`layer "noise": image %s: the content does not match its hash(?s:.*)data block %d \(byte %d\) does not match its hash; .* bad are 1 data block and 0 hash blocks`, id, at, at*4096))
	g.ends(qemu.Reset)
}

// isoFile is a directory with an ISO in it that holds the store.
func isoFile(t *testing.T, out output, volume string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "iso"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(iso9660(t, out.store(t, "veneer").dir, volume), filepath.Join(dir, "iso", "live one.iso")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAMediumThatIsAFileIsFound(t *testing.T) {
	t.Parallel()
	out := live(t, "cloud", "")
	dir := isoFile(t, out, "SOMETHING")
	blankDisk := ext4(t, t.TempDir(), "OTHER")
	for _, kind := range []string{"ext4", "vfat"} {
		t.Run("on "+kind, func(t *testing.T) {
			t.Parallel()
			holder := disk(t, disks.FileSystem{Type: kind, Label: "HOLDER"}, dir)
			// The set that the label VENEER would find is another, and must not be taken.
			decoy := out.store(t, "veneer")
			decoy.write("default", []byte("77\n"))
			words := []string{`"veneer.medium=/iso/live one.iso"`}
			if kind == "vfat" {
				words = []string{`"veneer.medium=LABEL=HOLDER:/iso/live one.iso"`, "veneer.toram"}
			}
			vm := out.vm(t, ext4(t, decoy.dir, label), words...)
			vm.Disks = append(vm.Disks, qemu.Disk{Path: blankDisk, ReadOnly: true}, qemu.Disk{Path: holder, ReadOnly: true})
			g := start(t, vm)
			g.shell()
			text, mounts := g.run("veneer status"), g.run("cat /proc/mounts")
			if !contains(text, `Store +(LABEL=HOLDER:)?/iso/live one.iso is /dev/loop\d+ \(iso9660\), the file /iso/live one.iso on /dev/vdc \(`+kind+`\)`) || !contains(text, `Degraded +no`) {
				t.Errorf("veneer status does not tell of the file:\n%s", text)
			}
			onDisk := contains(mounts, `(?m)^/dev/vdc /run/initramfs/veneer/medium `+kind+` ro,`) && contains(mounts, `(?m)^/dev/loop\d+ /run/initramfs/veneer/store iso9660 ro,`)
			if kind == "vfat" && (contains(mounts, `/dev/vdc|iso9660`) || !contains(text, `Memory +yes`)) || kind == "ext4" && !onDisk {
				t.Errorf("with %q the mounts are:\n%s", words, mounts)
			}
			g.readAll()
			g.leave("poweroff", "poweroff", qemu.PoweredOff)
		})
	}
}

func TestAMediumThatIsAFileIsNeverGuessed(t *testing.T) {
	t.Parallel()
	out := live(t, "cloud", "")
	holder := ext4(t, isoFile(t, out, "SOMETHING"), "HOLDER")
	for name, c := range map[string]struct {
		words []string
		cause string
	}{
		"two disks have it": {[]string{`"veneer.medium=/iso/live one.iso"`}, `more than one device answers: each of them has /iso/live one.iso, .*/dev/vda: ext4 LABEL="HOLDER".*; /dev/vdb: ext4`},
		"no disk has it":    {[]string{"veneer.medium=/iso/none.iso", "veneer.wait=1"}, `no device answered with the file /iso/none.iso .*/dev/vda: ext4 LABEL="HOLDER".*: it does not have the file; /dev/vdb: `},
		"it is a directory": {[]string{"veneer.medium=/dev/vdb:/iso"}, `/dev/vdb \(ext4\): what it has there is no regular file`},
		"it is no medium":   {[]string{"veneer.medium=/dev/vdb:/iso/text"}, `holds no file system`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vm := out.vm(t, holder, c.words...)
			second := holder
			if name == "it is no medium" {
				dir := t.TempDir()
				if err := os.MkdirAll(filepath.Join(dir, "iso"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "iso", "text"), make([]byte, 1<<20), 0o644); err != nil {
					t.Fatal(err)
				}
				second = ext4(t, dir, "TEXT")
			}
			vm.Disks = append(vm.Disks, qemu.Disk{Path: second, ReadOnly: true})
			g := start(t, vm)
			g.failed("find medium", c.cause)
			g.ends(qemu.Reset)
		})
	}
}

func TestAMediumThatIsPulledOutIsTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		words []string
		next  string
		end   qemu.End
	}{
		"and the machine powered off": {[]string{"veneer.medium-lost=poweroff"}, `poweroff in 0s`, qemu.PoweredOff},
		"and the machine restarted":   {[]string{"veneer.medium-lost=reboot"}, `reboot in 0s`, qemu.Reset},
		"and no more":                 {nil, `save what is open`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := live(t, "full", "")
			vm := out.vm(t, "", c.words...)
			vm.Disks = []qemu.Disk{{Path: out.disk(), Bus: qemu.USB, ReadOnly: true}}
			g := start(t, vm)
			g.expect(`veneer: .*\] load drivers`)
			g.expect(`veneer: .*\] switch root`)
			g.expect(g.prompt)
			g.run("echo 4 > /proc/sys/kernel/printk") // as quiet has it
			g.run("cat /proc/version")                // so that the page cache has what it takes, for the case that goes on
			if c.end != "" {
				g.run("echo 3 > /proc/sys/vm/drop_caches")
			}
			if err := g.Unplug(g.ctx, 0); err != nil {
				t.Fatal(err)
			}
			g.expect(`veneer: the medium /dev/sda is gone, and this system runs from it: what is not in memory cannot be read any more; next: ` + c.next)
			if c.end != "" {
				g.ends(c.end)
				return
			}
			g.send("")
			g.shell()
			if text := g.run("cat /run/veneer/medium-lost"); !contains(text, `the medium /dev/sda is gone`) {
				t.Errorf("/run/veneer/medium-lost says %q", text)
			}
		})
	}
}
