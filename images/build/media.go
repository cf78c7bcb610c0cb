package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"veneer/images"
	"veneer/images/disk"
)

// Files of the outputs for firmware.
const (
	outUKI   = "uki.efi"
	outDisk  = "disk.img"
	outQcow2 = "disk.qcow2"
	outZstd  = "disk.img.zst"
	outISO   = "disk.iso"
	espFile  = "esp.img" // staged only
	bootFile = "syslinux.cfg"
)

// Names on a disk. The store is found by the label of its file system.
const (
	espName   = "veneer-esp"
	storeName = "veneer-store"
	espLabel  = "VENEER-ESP"
)

// maxStub is more than any systemd-stub has, and maxSBAT more than fits beside its own lines.
const (
	maxStub = 4 << 20
	maxSBAT = 4 << 10
)

// efiNames are the architectures as EFI file names have them.
var efiNames = map[string]string{"amd64": "x64", "arm64": "aa64"}

// writeOutputs stages what was asked for and returns the names of what is to be published.
func (b *builder) writeOutputs(ctx context.Context, m images.Manifest, manifest []byte) (names []string, err error) {
	c := b.spec.Config
	if (c.makesDisk() || c.has(OutputISO)) && c.boots(FirmwareBIOS, m.Architecture) && m.Architecture != "amd64" {
		return nil, fmt.Errorf("boot.firmware: %s machines have no BIOS, and the kernel is for one", m.Architecture)
	}
	netUKI := c.has(OutputNetboot) && c.Boot.URL != "" && c.boots(FirmwareUEFI, m.Architecture)
	uefi := c.has(OutputUKI) || c.makesDisk() && c.boots(FirmwareUEFI, m.Architecture)
	if err := b.stage.write(defaultFile, []byte(firstSerial+"\n")); err != nil {
		return nil, err
	}
	for _, o := range []struct {
		wanted, published bool
		what, file        string
		make              func() error
	}{
		{c.has(OutputStore) || c.makesDisk(), c.has(OutputStore), "store", outStore, func() error { return b.makeStore(ctx, m, manifest) }},
		{uefi, c.has(OutputUKI), "uki", outUKI, func() error { return b.makeUKI(m, outUKI, c.Boot.Cmdline) }},
		{c.makesDisk(), c.has(OutputDisk), "disk", outDisk, func() error { return b.makeDisk(ctx, m, manifest) }},
		{c.has(OutputQcow2), true, outQcow2, outQcow2, func() error { return b.makeQcow2(ctx) }},
		{c.has(OutputZstd), true, outZstd, outZstd, func() error { return b.makeZstd(ctx) }},
		{c.has(OutputISO), true, "iso", outISO, func() error { return b.makeISO(ctx, m, manifest) }},
		{c.has(OutputNetboot), true, "netboot", outNetboot, func() error { return b.makeNetboot(m, netUKI) }},
	} {
		if !o.wanted {
			continue
		}
		b.spec.Progress.Start(o.what, 0)
		if err := o.make(); err != nil {
			return nil, err
		}
		size, err := treeSize(b.stage.path(o.file))
		if err != nil {
			return nil, err
		}
		b.spec.Progress.Finish("%s", FormatBytes(size))
		if o.published {
			names = append(names, o.file)
		}
	}
	return names, nil
}

func (b *builder) makeStore(ctx context.Context, m images.Manifest, manifest []byte) error {
	return makeStore(ctx, b.tools, b.stage.dir, b.spec.Config.label(), placedFiles(m, b.signer != nil), manifest, b.spec.Config.stateRoom(), b.newest())
}

// makeUKI stages a UKI, signed if there is a key.
func (b *builder) makeUKI(m images.Manifest, file, cmdline string) error {
	c := b.spec.Config.Boot
	stub, err := b.stub(m.Architecture)
	if err != nil {
		return err
	}
	if err := runsOn(stub, m.Architecture); err != nil {
		return fmt.Errorf("stub of %s: %w", file, err)
	}
	u := disk.UKI{Stub: stub, OSRelease: osRelease(m, c.Tries), Cmdline: cmdline, Uname: m.Kernel.Release}
	if c.SBAT != "" {
		if u.SBAT, err = readSmall(c.SBAT, maxSBAT); err != nil {
			return fmt.Errorf("boot.sbat: %w", err)
		}
	}
	if u.Kernel, err = os.ReadFile(b.stage.path(outKernel)); err != nil {
		return err
	}
	if u.Initramfs, err = os.ReadFile(b.stage.path(outInitramfs)); err != nil {
		return err
	}
	if c.Splash != "" {
		if u.Splash, err = readSmall(c.Splash, maxStub); err != nil {
			return fmt.Errorf("boot.splash: %w", err)
		}
	}
	image, err := u.Image()
	if err != nil {
		return fmt.Errorf("make %s: %w", file, err)
	}
	if b.efi != nil {
		if image, err = b.efi.Sign(image); err != nil {
			return fmt.Errorf("sign %s: %w", file, err)
		}
	}
	return b.stage.write(file, image)
}

// stub finds systemd's stub for UKIs.
func (b *builder) stub(arch string) ([]byte, error) {
	if named := b.spec.Config.Boot.Stub; named != "" {
		stub, err := readSmall(named, maxStub)
		if err != nil {
			return nil, fmt.Errorf("boot.stub: %w", err)
		}
		return stub, nil
	}
	return b.systemdEFI("linux" + efiNames[arch] + ".efi.stub")
}

// systemdEFI finds an EFI program of systemd's: that of the tree, else that of this host.
func (b *builder) systemdEFI(name string) ([]byte, error) {
	const dir = "usr/lib/systemd/boot/efi/"
	for _, j := range b.jobs {
		if e := j.tree.lookup(dir + name); e != nil && j.role == images.RoleBase {
			return j.tree.readFile(e, maxStub)
		}
	}
	program, err := readSmall("/"+dir+name, maxStub)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s is neither in the tree nor on this host: add the Debian package systemd-boot-efi of that architecture to the tree, or install it here, or name the stub in boot.stub", name)
	}
	return program, err
}

// runsOn refuses an EFI program for another architecture than that of the kernel, which no firmware would start.
func runsOn(program []byte, arch string) error {
	is, err := disk.Architecture(program)
	if err == nil && is != arch {
		err = fmt.Errorf("it is for %s, and the kernel for %s", is, arch)
	}
	return err
}

// triesField is how many tries a UKI is to have on the EFI system partition, in its os-release, where its installation finds it.
const triesField = "VENEER_TRIES"

// osRelease is what boot menus show and sort by (os-release(5)).
func osRelease(m images.Manifest, tries int) []byte {
	quote := func(s string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(s) + `"`
	}
	text := fmt.Appendf(nil, "ID=veneer\nNAME=%s\nPRETTY_NAME=%s\nVERSION_ID=%s\nIMAGE_ID=%s\nIMAGE_VERSION=%s\n", quote(m.Name), quote(m.Name+" "+m.Version),
		quote(m.Version), quote(m.Name), quote(m.Version))
	if tries > 0 {
		text = fmt.Appendf(text, "%s=%d\n", triesField, tries)
	}
	return text
}

// makeDisk stages the disk: a GPT with an EFI system partition, the store, and free room for what the machine makes itself. GUIDs,
// serials and times are functions of the manifest.
func (b *builder) makeDisk(ctx context.Context, m images.Manifest, manifest []byte) error {
	if err := b.makeESP(ctx, m, manifest); err != nil {
		return fmt.Errorf("make the EFI system partition: %w", err)
	}
	f, err := b.stage.create(outDisk)
	if err != nil {
		return err
	}
	id := func(of string) string { return uuidOf(append([]byte(of+"\n"), manifest...)) }
	esp := disk.Partition{Name: espName, GUID: id("esp"), Type: disk.TypeESP, Image: b.stage.path(espFile)}
	if b.spec.Config.boots(FirmwareBIOS, m.Architecture) {
		esp.Attributes = disk.BIOSBootable
	}
	err = disk.Write(f, id("disk"), b.spec.Config.sector(), b.spec.Config.freeRoom(), esp,
		disk.Partition{Name: storeName, GUID: id("store"), Type: disk.TypeLinux, Image: b.stage.path(outStore)})
	if err == nil && esp.Attributes&disk.BIOSBootable != 0 {
		err = writeBootCode(f)
	}
	if err = errors.Join(err, closeSynced(f)); err != nil {
		return fmt.Errorf("make %s: %w", outDisk, err)
	}
	return nil
}

// bootCode starts the partition that is marked BIOSBootable; the first bytes of an MBR, before its table, hold it.
const (
	bootCode    = "/usr/lib/syslinux/mbr/gptmbr.bin"
	maxBootCode = 440
)

func writeBootCode(f *os.File) error {
	code, err := readSmall(bootCode, maxBootCode)
	if err != nil {
		return fmt.Errorf("boot code for BIOS: %w: install syslinux-common (apt-get install syslinux-common), or set boot.firmware = [\"uefi\"]", err)
	}
	_, err = f.WriteAt(code, 0)
	return err
}
