package vmtests

// Media that others built, by their own documented layouts, with the command lines of their own boot menus.
//
//	machine   q35, 512 MiB, the live variant of the init
//	disks     vda: the medium, an ISO; vdb: what is kept, where a case has it
//	console   the shell of the base, which has no veneer command: the record in /run is read

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"veneer/images"
	"veneer/stage"
	"veneer/vmtests/qemu"
)

// foreignInit is a build of the live variant, whose kernel and initramfs boot others' media.
func foreignInit(t *testing.T, name, more string) output {
	t.Helper()
	return outputOf(t, smallRecipe(t, "small-live"+name, "variant = \"live\"\n"+more))
}

// anything boots whatever medium there is.
func anything(t *testing.T) output {
	t.Helper()
	return foreignInit(t, "", "allow-unsigned = true")
}

// squash is the base of an output as a squashfs. What lies behind the file system in the file, the hash tree, is no part of it.
func (o output) squash(t *testing.T) string {
	t.Helper()
	for _, img := range o.manifest(t).Images {
		if img.Role == images.RoleBase {
			return o.file(images.ImagePath(img.ID))
		}
	}
	t.Fatal("the output has no base")
	return ""
}

// medium makes an ISO of these files; what begins with a slash is a file to be copied.
func medium(t *testing.T, label string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(content, "/") {
			content = string(read(t, content))
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return iso9660(t, dir, label)
}

// packed makes a squashfs or EROFS of these files.
func packed(t *testing.T, program string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	img := filepath.Join(t.TempDir(), "image")
	if program == "mksquashfs" {
		must(t, "", program, dir, img, "-all-root", "-quiet", "-no-progress", "-noappend")
	} else {
		must(t, "", program, "--all-root", img, dir)
	}
	return img
}

// unpacked is the small base as a directory.
func unpacked(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, dir, "tar", "-xf", smallTree(t, "amd64"))
	return dir
}

// kept makes a disk that others keep things on.
func keptDisk(t *testing.T, label, conf string) string {
	t.Helper()
	dir := t.TempDir()
	if conf != "" {
		if err := os.WriteFile(filepath.Join(dir, "persistence.conf"), []byte(conf), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	img := filepath.Join(t.TempDir(), "kept.img")
	must(t, "", "mke2fs", "-q", "-t", "ext4", "-L", label, "-d", dir, img, "32M")
	return img
}

// on boots the output's kernel with a medium, and disks that can be written to.
func (o output) on(t *testing.T, medium string, others ...string) machine {
	t.Helper()
	m := o.machineOn(t, medium, others...)
	m.vm.Disks[0].ReadOnly = true
	return m
}

// unverified checks that the boot told everybody what it could not vouch for, and nothing more than that.
func (g *guest) unverified(more ...string) stage.Record {
	g.t.Helper()
	rec := g.record()
	var got []string
	for _, d := range rec.Degraded {
		got = append(got, d.What)
	}
	if want := append([]string{"unverified"}, more...); !slices.Equal(got, want) {
		g.t.Errorf("degraded: %q, want %q\n%+v", got, want, rec.Degraded)
	}
	if motd := g.run("cat /run/motd.d/veneer"); !contains(motd, `- unverified: the medium carries no signature`) {
		g.t.Errorf("the banner does not say unverified:\n%s", motd)
	}
	return rec
}

// bases are the names of the images in the record, the lowest first.
func bases(rec stage.Record) (names []string) {
	for _, img := range rec.Images {
		names = append(names, img.Name)
	}
	return names
}

func TestAMediumOfLiveBootKeepsWhatPersistenceConfSays(t *testing.T) {
	t.Parallel()
	out := anything(t)
	iso := medium(t, "DEBIAN", map[string]string{
		"live/filesystem.squashfs": out.squash(t),
		"live/10-more.squashfs":    packed(t, "mksquashfs", map[string]string{"etc/more": "a layer\n"}),
		"live/unlisted.squashfs":   packed(t, "mksquashfs", map[string]string{"etc/unlisted": "not in the list\n"}),
		"live/filesystem.module":   "filesystem.squashfs 10-more.squashfs\n",
		".disk/info":               "A medium of live-boot\n",
	})
	conf := "# what is kept\n/ union,source=root\n/srv bind\n/opt/dots link,source=dots\nrelative\n"
	disk := keptDisk(t, "persistence", conf)
	must(t, "", "debugfs", "-w", "-R", "mkdir dots", disk)
	must(t, "", "debugfs", "-w", "-R", "write "+filepath.Join(shared.root, "go.mod")+" dots/rc", disk)
	m := out.on(t, iso, disk)

	g := m.boot("boot=live components persistence quiet")
	rec := g.unverified("not all that persistence.conf names is kept")
	if got, want := bases(rec), []string{"filesystem.squashfs", "10-more.squashfs"}; !slices.Equal(got, want) {
		t.Errorf("images %q, want %q", got, want)
	}
	if rec.State.Kind != stage.StatePersistent || rec.State.Device != "/dev/vdb" || rec.Upper.Kind != "persistent" || len(rec.Rules) != 3 {
		t.Errorf("state %+v, upper %+v, rules %+v", rec.State, rec.Upper, rec.Rules)
	}
	if !slices.ContainsFunc(rec.Aliases, func(a string) bool { return strings.HasPrefix(a, "boot=live -> ") }) {
		t.Errorf("aliases %q do not tell of boot=live", rec.Aliases)
	}
	g.holds("/etc/more", "a layer")
	g.holds("/etc/unlisted", "")
	g.run("echo kept > /etc/kept; rm /etc/more; echo served > /srv/kept; echo dot > /opt/dots/rc")
	for _, dir := range []string{"/run/live/medium/live", "/run/live/rootfs/filesystem.squashfs/etc", "/run/live/persistence/vdb/root/rw", "/run/rootfsbase/etc"} {
		g.run("ls " + dir)
	}
	g.off()

	must(t, "", "e2fsck", "-fn", disk)
	for file, want := range map[string]string{"root/rw/etc/kept": "kept\n", "srv/kept": "served\n", "dots/rc": "dot\n"} {
		if got := must(t, "", "debugfs", "-R", "cat "+file, disk); got != want {
			t.Errorf("%s on the disk holds %q, want %q: live-boot would look there", file, got, want)
		}
	}

	g = m.boot("boot=live persistence")
	g.unverified("not all that persistence.conf names is kept")
	g.holds("/etc/kept", "kept")
	g.holds("/etc/more", "")
	g.holds("/srv/kept", "served")
	g.holds("/opt/dots/rc", "dot")
	g.off()

	g = m.boot("boot=live persistence persistence-read-only")
	rec = g.unverified("not all that persistence.conf names is kept")
	g.holds("/etc/kept", "kept")
	g.run("echo other > /etc/kept; echo other > /srv/kept")
	g.off()
	if got := must(t, "", "debugfs", "-R", "cat root/rw/etc/kept", disk); got != "kept\n" {
		t.Errorf("a boot that only looked wrote %q", got)
	}
}

func TestWhatIsNotThereToKeepIsTold(t *testing.T) {
	t.Parallel()
	out := anything(t)
	iso := medium(t, "UBUNTU", map[string]string{
		"casper/minimal.squashfs":          out.squash(t),
		"casper/minimal.standard.squashfs": packed(t, "mksquashfs", map[string]string{"etc/more": "standard\n"}),
	})
	lost := "nothing is kept: what is written is in memory, and gone at the next boot"
	t.Run("no device", func(t *testing.T) {
		t.Parallel()
		g := out.on(t, iso).boot("boot=casper layerfs-path=minimal.standard.squashfs persistent --- quiet splash")
		rec := g.unverified(lost)
		if got, want := bases(rec), []string{"minimal.squashfs", "minimal.standard.squashfs"}; !slices.Equal(got, want) || rec.State.Kind != stage.StateEphemeral {
			t.Errorf("images %q, want %q; state %+v", got, want, rec.State)
		}
		g.holds("/etc/more", "standard")
		g.run("ls /cdrom/casper/minimal.squashfs /rofs/etc")
		if motd := g.run("cat /run/motd.d/veneer"); !contains(motd, `NOTHING IS KEPT`) {
			t.Errorf("the banner does not say that nothing is kept:\n%s", motd)
		}
		g.off()
	})
	t.Run("no list", func(t *testing.T) {
		t.Parallel()
		iso := medium(t, "DEBIAN", map[string]string{"live/filesystem.squashfs": out.squash(t)})
		g := out.on(t, iso, keptDisk(t, "persistence", "")).boot("boot=live persistence")
		g.unverified("nothing on /dev/vdb is kept", lost)
		g.off()
	})
	t.Run("and fails where that was asked for", func(t *testing.T) {
		t.Parallel()
		g := out.on(t, iso).start("boot=casper layerfs-path=minimal.standard.squashfs persistent veneer.missing-upper=fail veneer.wait=2")
		g.failed("find state", `writable or casper-rw: no device answered`)
		g.ends(qemu.Reset)
	})
}

// writableMedium makes a stick of these files, as an ext4 with room, and casper-rw is a file system in a file on it.
func writableMedium(t *testing.T, label string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, read(t, content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	img := filepath.Join(t.TempDir(), "stick.img")
	must(t, "", "mke2fs", "-q", "-t", "ext4", "-L", label, "-d", dir, img, "160M")
	return img
}

func TestWhatIsKeptLiesOnTheMediumItself(t *testing.T) {
	t.Parallel()
	out := anything(t)
	t.Run("in casper's file", func(t *testing.T) {
		t.Parallel()
		stick := writableMedium(t, "STICK", map[string]string{"casper/filesystem.squashfs": out.squash(t), "casper-rw": keptDisk(t, "casper-rw", "")})
		m := out.machineOn(t, stick)
		g := m.boot("boot=casper persistent")
		if rec := g.unverified(); rec.State.Dir != "casper-rw" || rec.State.Device != "/dev/vda" {
			t.Errorf("state %+v, want the file casper-rw on /dev/vda", rec.State)
		}
		g.run("echo kept > /etc/kept; sync")
		if _, code := g.try("touch /cdrom/x"); code == 0 {
			t.Error("the medium can be written to where it is the medium")
		}
		g.off()
		must(t, "", "e2fsck", "-fn", stick)
		g = m.boot("boot=casper persistent")
		g.holds("/etc/kept", "kept")
		g.off()
	})
	t.Run("in archiso's directory, until the base is another", func(t *testing.T) {
		t.Parallel()
		stick := writableMedium(t, "STICK", map[string]string{"arch/x86_64/airootfs.sfs": out.squash(t)})
		m := out.machineOn(t, stick)
		const line = "archisolabel=STICK cow_label=STICK"
		g := m.boot(line)
		g.unverified()
		g.run("echo kept > /etc/kept")
		g.off()
		if got := must(t, "", "debugfs", "-R", "cat persistent_STICK/x86_64/upperdir/etc/kept", stick); got != "kept\n" {
			t.Errorf("archiso's upper holds %q", got)
		}
		erofs := filepath.Join(t.TempDir(), "airootfs.erofs")
		must(t, "", "mkfs.erofs", "--all-root", erofs, unpacked(t))
		must(t, "", "debugfs", "-w", "-R", "rm arch/x86_64/airootfs.sfs", stick)
		must(t, "", "debugfs", "-w", "-R", "write "+erofs+" arch/x86_64/airootfs.erofs", stick)
		g = m.boot(line)
		g.unverified("what is kept was written on another base")
		g.holds("/etc/kept", "kept")
		g.off()
	})
}

func TestMediaOfDracutAndArchisoBoot(t *testing.T) {
	t.Parallel()
	out := anything(t)
	t.Run("an ISO that is a file on a stick", func(t *testing.T) {
		t.Parallel()
		iso := medium(t, "FEDORA", map[string]string{"LiveOS/squashfs.img": out.squash(t)})
		stick := writableMedium(t, "STICK", map[string]string{"iso/fedora.iso": iso})
		g := out.on(t, keptDisk(t, "OTHER", ""), stick).boot("root=live:CDLABEL=FEDORA rd.live.image iso-scan/filename=/iso/fedora.iso")
		g.unverified()
		g.run("ls /run/initramfs/live/LiveOS")
		g.off()
	})
	t.Run("the root in a squashfs, kept in a directory of LiveOS", func(t *testing.T) {
		t.Parallel()
		iso := medium(t, "FEDORA", map[string]string{"LiveOS/squashfs.img": out.squash(t)})
		disk := keptDisk(t, "KEEP", "")
		m := out.on(t, iso, disk)
		line := "root=live:CDLABEL=FEDORA rd.live.image rd.overlay=LABEL=KEEP:/LiveOS/overlay-x rd.live.check quiet"
		g := m.boot(line)
		g.unverified()
		g.run("ls /run/initramfs/live/LiveOS /run/initramfs/livedev /run/ovlwork; echo kept > /etc/kept")
		g.off()
		if got := must(t, "", "debugfs", "-R", "cat LiveOS/overlay-x/etc/kept", disk); got != "kept\n" {
			t.Errorf("dracut's overlay holds %q", got)
		}
		g = m.boot(line)
		g.holds("/etc/kept", "kept")
		g.off()
	})
	t.Run("the root in an ext4 in a squashfs", func(t *testing.T) {
		t.Parallel()
		root := filepath.Join(t.TempDir(), "rootfs.img")
		must(t, "", "mke2fs", "-q", "-t", "ext4", "-L", "ROOT", "-d", unpacked(t), root, "96M")
		iso := medium(t, "FEDORA", map[string]string{"LiveOS/squashfs.img": packed(t, "mksquashfs", map[string]string{"LiveOS/rootfs.img": string(read(t, root))})})
		g := out.on(t, iso).boot("root=live:CDLABEL=FEDORA rd.live.image")
		if rec := g.unverified(); len(rec.Images) != 1 || rec.Images[0].FileSystem != "ext4" || rec.Images[0].Name != "rootfs.img" {
			t.Errorf("images %+v, want the ext4 rootfs.img", rec.Images)
		}
		g.off()
	})
	for name, make := range map[string]string{"airootfs.sfs": "mksquashfs", "airootfs.erofs": "mkfs.erofs"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			img := out.squash(t)
			if make == "mkfs.erofs" {
				img = filepath.Join(t.TempDir(), name)
				must(t, "", make, img, unpacked(t))
			}
			// Another disk comes first by name, and is no medium.
			iso := medium(t, "ARCH", map[string]string{"arch/x86_64/" + name: img, "boot/2026-01-01-00-00-00-00.uuid": ""})
			m := out.on(t, keptDisk(t, "OTHER", ""), iso)
			g := m.boot("archisobasedir=arch archisosearchuuid=2026-01-01-00-00-00-00")
			if rec := g.unverified(); rec.Store.Device != "/dev/vdb" {
				t.Errorf("store %+v, want the medium on /dev/vdb", rec.Store)
			}
			g.run("ls /run/archiso/bootmnt/arch /run/archiso/airootfs/etc")
			g.off()
		})
	}
}

func TestAMediumOfOthersNeedsLeave(t *testing.T) {
	t.Parallel()
	base := anything(t).squash(t)
	iso := medium(t, "DEBIAN", map[string]string{"live/filesystem.squashfs": base})
	t.Run("without allow-unsigned it is refused", func(t *testing.T) {
		t.Parallel()
		g := foreignInit(t, "-signed", "").on(t, iso).start("boot=live")
		g.failed("check manifest", `this medium carries no signature of ours`)
		g.ends(qemu.Reset)
	})
	digest := sha256.Sum256(read(t, base))
	pinned := foreignInit(t, "-pinned", "pins = [\"sha256:"+hex.EncodeToString(digest[:])+"\"]\nallow-unsigned = true")
	t.Run("the image that is pinned boots", func(t *testing.T) {
		t.Parallel()
		g := pinned.on(t, iso).boot("boot=live")
		if rec := g.record(); rec.Verified.Pinned != "sha256:"+hex.EncodeToString(digest[:]) || len(rec.Degraded) > 0 {
			t.Errorf("verified %+v, degraded %+v", rec.Verified, rec.Degraded)
		}
		g.off()
	})
	t.Run("and one in which a bit was changed does not", func(t *testing.T) {
		t.Parallel()
		changed := read(t, base)
		changed[len(changed)/2] ^= 1
		iso := medium(t, "DEBIAN", map[string]string{"live/filesystem.squashfs": string(changed)})
		g := pinned.on(t, iso).start("boot=live")
		g.failed("check manifest", `filesystem.squashfs has the SHA-256 [0-9a-f]{64}, which this initramfs does not pin`)
		g.ends(qemu.Reset)
	})
}

// The small recipe's Debian, with systemd, as live-boot lays it out.
func TestADebianOnAMediumOfLiveBootComesUp(t *testing.T) {
	t.Parallel()
	toml := read(t, filepath.Join(shared.root, "examples/debian/veneer.toml"))
	toml = replaced(t, toml, "../../out/debian.tar", "debian.tar")
	toml = replaced(t, toml, "../../out/demo.key", "test.key")
	out := outputOf(t, recipe{"debian-live", "variant = \"live\"\nallow-unsigned = true\n" + string(toml), map[string]string{"debian.tar": debianTree(t), "test.key": testKey(t, "test")}})
	iso := medium(t, "DEBIAN", map[string]string{"live/filesystem.squashfs": out.squash(t)})
	vm := out.on(t, iso, keptDisk(t, "persistence", "/home union\n")).vm
	vm.Append = append(vm.Append, "boot=live persistence")
	g := login(t, vm)
	if state, code := g.try("systemctl is-system-running --wait"); code != 0 {
		t.Errorf("systemctl is-system-running: %s%s", state, g.run("systemctl list-units --failed --plain --no-legend --no-pager"))
	}
	g.unverified()
	if got := g.run("findmnt -n -o FSTYPE /home"); strings.TrimSpace(got) != "overlay" {
		t.Errorf("/home is %q, want an overlay", got)
	}
	g.leave("systemctl poweroff", "poweroff", qemu.PoweredOff)
}
