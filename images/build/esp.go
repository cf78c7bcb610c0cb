package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"veneer/images"
	"veneer/images/disk"
	"veneer/images/esp"
)

// espFileOf is a file of the EFI system partition and where it comes from, in the staging directory.
type espFileOf struct{ name, from string }

// makeESP stages a FAT file system with what firmware starts. It has room for two more sets.
func (b *builder) makeESP(ctx context.Context, m images.Manifest, manifest []byte) error {
	c := b.spec.Config
	var files []espFileOf
	if c.boots(FirmwareUEFI, m.Architecture) {
		found, err := b.efiFiles(m)
		if err != nil {
			return err
		}
		files = found
	}
	bios := c.boots(FirmwareBIOS, m.Architecture)
	if bios {
		found, err := b.biosFiles(m)
		if err != nil {
			return err
		}
		files = append(files, found...)
	}
	sum := int64(0)
	for _, f := range files {
		info, err := os.Stat(b.stage.path(f.from))
		if err != nil {
			return err
		}
		sum += info.Size()
	}
	if err := b.makeFAT(ctx, roomForSets(sum), manifest, files); err != nil || !bios {
		return err
	}
	install := command{dir: b.stage.dir, env: b.fatTime(), argv: []string{b.tools["syslinux"], "--install", "--directory", "/syslinux", espFile}}
	return install.run(ctx)
}

// roomForSets is a FAT file system for three sets like this one: its two tables take a 64th, directories and what is rounded up a little.
func roomForSets(bytes int64) int64 { return 3*bytes + 3*bytes/32 + 1<<20 }

// efiFiles stages the rest of what UEFI starts: the UKI itself, or a menu with the UKI as an entry.
func (b *builder) efiFiles(m images.Manifest) ([]espFileOf, error) {
	c := b.spec.Config.Boot
	arch := efiNames[m.Architecture]
	first := firstProgram(m.Architecture)
	if !c.Menu {
		return []espFileOf{{first, outUKI}}, nil
	}
	menu, err := b.systemdEFI("systemd-boot" + arch + ".efi")
	if err == nil {
		err = runsOn(menu, m.Architecture)
	}
	if err == nil && b.efi != nil {
		menu, err = b.efi.Sign(menu)
	}
	if err != nil {
		return nil, fmt.Errorf("boot.menu: %w", err)
	}
	const menuFile, settings = "menu.efi", "loader.conf"
	files := []espFileOf{{first, menuFile}, {entryDir + "/" + entryName(m, c.Tries).String(), outUKI}, {"loader/" + settings, settings}}
	contents := map[string][]byte{menuFile: menu, settings: fmt.Appendf(nil, "timeout %d\neditor no\n", c.Timeout)}
	if c.Unasked {
		contents[settings] = append(contents[settings], "secure-boot-enroll force\n"...) // loader.conf(5)
	}
	if c.Enroll != "" {
		for _, name := range []string{disk.PlatformKey, disk.ExchangeKey, disk.ProgramKey} {
			name += ".auth"
			auth, err := readSmall(filepath.Join(c.Enroll, name), maxSecretKey)
			if err != nil {
				return nil, fmt.Errorf("boot.enroll: %w: want what 'veneer keygen --secure-boot' wrote", err)
			}
			contents[name] = auth
			files = append(files, espFileOf{"loader/keys/auto/" + name, name})
		}
	}
	for name, content := range contents {
		if err := b.stage.write(name, content); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// maxFATName is less than the 255 units that a name on FAT can have, with what is put behind it.
const maxFATName = 200

// fatName replaces what FAT takes in no name, or not in every locale, and what systemd-boot passes over: a + begins a count of tries,
// names that begin with a dot or with auto- are not looked at.
func fatName(name string) string {
	name = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || strings.ContainsRune(`"*/:<>?\|+,;=[]`, r) {
			return '-'
		}
		return r
	}, name)
	if strings.HasPrefix(name, ".") || strings.HasPrefix(strings.ToLower(name), "auto-") {
		name = "veneer-" + name
	}
	return name[:min(len(name), maxFATName)]
}

// entryDir is where menus look for UKIs (the UAPI group's Boot Loader Specification, type #2).
const entryDir = "EFI/Linux"

// entryName is that of a set's UKI.
func entryName(m images.Manifest, tries int) esp.Name {
	return esp.Name{Stem: fatName(m.Name + "-" + m.Version), Suffix: ".efi", Counted: tries > 0, Left: tries}
}

// firstProgram is what firmware starts of a disk that it knows nothing about (UEFI 2.10, 3.5.1.1).
func firstProgram(arch string) string {
	return "EFI/BOOT/BOOT" + strings.ToUpper(efiNames[arch]) + ".EFI"
}

// biosFiles stages the rest of what syslinux starts, which reads no UKI.
func (b *builder) biosFiles(m images.Manifest) ([]espFileOf, error) {
	set := biosSetOf(m)
	set.cmdline = b.spec.Config.Boot.Cmdline
	files := []espFileOf{{set.kernel, outKernel}, {set.initramfs, outInitramfs}, {biosConfig, bootFile}}
	return files, b.stage.write(bootFile, set.config(nil))
}

// fatLeast is the least that FAT32 can have, with some room: fewer clusters would make firmware take it for FAT16.
const fatLeast = 40 << 20

// makeFAT makes a FAT32 file system of at least size bytes. mtools fills it without a mount.
func (b *builder) makeFAT(ctx context.Context, size int64, manifest []byte, files []espFileOf) error {
	// A cluster is a sector.
	size = (max(size, fatLeast*int64(b.spec.Config.sector()/disk.Sector)) + 1<<20 - 1) &^ (1<<20 - 1)
	serial := strings.ReplaceAll(uuidOf(append([]byte("fat\n"), manifest...)), "-", "")[:8]
	dir := b.stage.dir
	mkfs := command{dir: dir, env: b.fatTime(), argv: []string{b.tools["mkfs.fat"], "--invariant", "-F", "32", "-S", strconv.Itoa(b.spec.Config.sector()), "-s", "1", "-i", serial, "-n", espLabel,
		"-C", espFile, strconv.FormatInt(size/1024, 10)}}
	if err := mkfs.run(ctx); err != nil {
		return err
	}
	made := map[string]bool{".": true}
	for _, f := range files {
		var dirs []string
		for d := filepath.Dir(f.name); !made[d]; d = filepath.Dir(d) {
			made[d] = true
			dirs = append([]string{"::/" + d}, dirs...)
		}
		for _, d := range dirs {
			if err := b.mtool(ctx, "mmd", "-i", espFile, d); err != nil {
				return err
			}
		}
		if err := b.mtool(ctx, "mcopy", "-i", espFile, f.from, "::/"+f.name); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) mtool(ctx context.Context, name string, args ...string) error {
	// No settings of the user's, and no question that nobody answers.
	env := append(b.fatTime(), "MTOOLSRC=/dev/null", "MTOOLS_SKIP_CHECK=1")
	return command{dir: b.stage.dir, env: env, argv: append([]string{b.tools[name]}, args...)}.run(ctx)
}

// fatTime makes the tools write one time; FAT begins in 1980.
func (b *builder) fatTime() []string {
	least := time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	at := b.newest()
	if at.Before(least) {
		at = least
	}
	return []string{"SOURCE_DATE_EPOCH=" + strconv.FormatInt(at.Unix(), 10)}
}
