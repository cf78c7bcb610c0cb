package build

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"veneer/boot"
	"veneer/images"
	"veneer/images/disk"
)

// Files of an ISO, staged only. The file system that UEFI starts from lies behind the ISO's own, as the second partition.
const (
	isoUKI    = "iso.efi"
	isoESP    = "iso-esp.img"
	isoConfig = "isolinux.cfg"
)

// What a BIOS starts: from a CD the loader, from a stick the boot code, which loads the same loader.
const (
	isoLoader   = "/usr/lib/ISOLINUX/isolinux.bin"
	isoBootCode = "/usr/lib/ISOLINUX/isohdpfx.bin"
	isoModule   = "/usr/lib/syslinux/modules/bios/ldlinux.c32"
)

// makeISO stages an ISO that UEFI and a BIOS boot, as a CD and written to a stick:
//
//   - the store, and kernel and initramfs for a BIOS, lie in an ISO 9660 file system with the names of Rock Ridge
//   - as a stick it has a GPT of two partitions that overlap nothing: the ISO 9660 file system, which can be mounted there too because
//     its directories are written once more for that place, and the EFI system partition
//   - the command line names the store by the ISO's UUID, which is a function of the manifest
func (b *builder) makeISO(ctx context.Context, m images.Manifest, manifest []byte) error {
	c := b.spec.Config
	uefi, bios := c.boots(FirmwareUEFI, m.Architecture), c.boots(FirmwareBIOS, m.Architecture)
	date := isoDate(b.newest(), manifest)
	cmdline, err := isoCmdline(c.Boot.Cmdline, date)
	if err != nil {
		return err
	}
	if uefi {
		if err := b.makeISOESP(ctx, m, manifest, cmdline); err != nil {
			return fmt.Errorf("make the EFI system partition: %w", err)
		}
	}
	files := placedFiles(m, b.signer != nil)
	if bios {
		found, err := b.isolinux(cmdline)
		if err != nil {
			return fmt.Errorf("make %s for a BIOS: %w", outISO, err)
		}
		files = append(files, found...)
	}
	at := isoFileDate(b.newest())
	argv := []string{b.tools["xorriso"], "-no_rc", "-as", "mkisofs", "-quiet", "-iso-level", "3", "-full-iso9660-filenames", "-rational-rock",
		"-volid", isoLabel(m.Name), "-preparer", "veneer " + boot.Version, "--modification-date=" + date, "--set_all_file_dates", at,
		"-no-pad", "-partition_cyl_align", "off", "-partition_offset", "16",
		"-iso_mbr_part_type", disk.TypeLinux, "--gpt_disk_guid", uuidOf(append([]byte("iso\n"), manifest...)), "-output", outISO, "-graft-points"}
	if bios {
		argv = append(argv, "-isohybrid-mbr", isoBootCode, "--mbr-force-bootable", "-c", "isolinux/boot.cat", "-b", "isolinux/isolinux.bin", "-no-emul-boot",
			"-boot-load-size", "4", "-boot-info-table")
	}
	if uefi {
		argv = append(argv, "-append_partition", "2", disk.TypeESP, isoESP, "-appended_part_as_gpt", "-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot")
	} else {
		// Without a partition behind its file system xorriso makes an MBR, and a state takes a GPT.
		if err := b.stage.write(isoESP, make([]byte, 1<<20)); err != nil {
			return err
		}
		argv = append(argv, "-append_partition", "3", disk.TypeLinux, isoESP, "-appended_part_as_gpt")
	}
	for _, f := range files {
		argv = append(argv, f.name+"="+f.from)
	}
	if err := (command{dir: b.stage.dir, argv: argv}).run(ctx); err != nil {
		return fmt.Errorf("make %s: %w", outISO, err)
	}
	if err := os.Chmod(b.stage.path(outISO), 0o644); err != nil {
		return err
	}
	return syncFile(b.stage.path(outISO))
}

// makeISOESP stages what UEFI starts from an ISO. It has room for one set: nothing on an ISO is ever renewed.
func (b *builder) makeISOESP(ctx context.Context, m images.Manifest, manifest []byte, cmdline string) error {
	if err := b.makeUKI(m, isoUKI, cmdline); err != nil {
		return err
	}
	files, err := b.efiFiles(m, isoUKI)
	if err != nil {
		return err
	}
	sum, err := b.sizeOf(files)
	if err != nil {
		return err
	}
	return b.makeFAT(ctx, isoESP, disk.Sector, sum+sum/32+1<<20, append([]byte("iso\n"), manifest...), files)
}

// isolinux stages what a BIOS starts. Kernel and initramfs have names that ISO 9660 itself knows: the loader reads no Rock Ridge.
func (b *builder) isolinux(cmdline string) ([]placed, error) {
	config := fmt.Sprintf("DEFAULT veneer\nPROMPT 0\nLABEL veneer\n  LINUX /boot/%s\n  INITRD /%s\n  APPEND %s\n", outKernel, isoInitrd, cmdline)
	if err := b.stage.write(isoConfig, []byte(config)); err != nil {
		return nil, err
	}
	files := []placed{{"boot/" + outKernel, outKernel}, {isoInitrd, outInitramfs}, {"isolinux/" + isoConfig, isoConfig}}
	for _, p := range []struct{ from, name, pkg string }{
		{isoLoader, "isolinux.bin", "isolinux"}, {isoBootCode, "", "isolinux"}, {isoModule, "ldlinux.c32", "syslinux-common"},
	} {
		content, err := readSmall(p.from, maxStub)
		if err != nil {
			return nil, fmt.Errorf("%w: install %s (apt-get install %s), or set boot.firmware = [\"uefi\"]", err, p.pkg, p.pkg)
		}
		if p.name == "" {
			continue // xorriso takes it from there
		}
		if err := b.stage.write(p.name, content); err != nil {
			return nil, err
		}
		files = append(files, placed{"isolinux/" + p.name, p.name})
	}
	return files, nil
}

// isoCmdline names the store, unless the command line does that itself.
func isoCmdline(cmdline, date string) (string, error) {
	given, err := boot.ParseCmdline(boot.Config{}, cmdline)
	if err != nil {
		return "", fmt.Errorf("boot.cmdline: %w", err)
	}
	if given.Store == (boot.StoreRef{}) {
		cmdline = strings.TrimSpace(cmdline + " veneer.store=UUID=" + isoUUID(date))
	}
	if len(cmdline) > maxCmdline {
		return "", errors.New("boot.cmdline: with the name of the store it is longer than a kernel takes; shorten it")
	}
	return cmdline, nil
}

// isoDate is the date of an ISO, YYYYMMDDhhmmsscc: the day of its newest file, and a time of day that is a function of the manifest.
// The UUID of an ISO 9660 file system is its date, so that it is another one for each build.
func isoDate(newest time.Time, manifest []byte) string {
	const day = 24 * 60 * 60 * 100 // hundredths of seconds
	sum := sha256.Sum256(append([]byte("iso date\n"), manifest...))
	n := binary.LittleEndian.Uint64(sum[:]) % day
	return fmt.Sprintf("%s%02d%02d%02d%02d", newest.UTC().Format("20060102"), n/360000, n/6000%60, n/100%60, n%100)
}

// isoFileDate is the date of the files on an ISO. xorriso takes the second 0 for no date, and puts in the time of the build.
func isoFileDate(newest time.Time) string {
	return time.Unix(max(1, newest.Unix()), 0).UTC().Format("20060102150405") + "00"
}

// isoUUID spells a date as udev and blkid spell the UUID.
func isoUUID(date string) string {
	return strings.Join([]string{date[0:4], date[4:6], date[6:8], date[8:10], date[10:12], date[12:14], date[14:16]}, "-")
}

// isoLabel makes a volume label of a name: ISO 9660 knows 32 capitals, digits and underscores.
func isoLabel(name string) string {
	label := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
	return label[:min(len(label), 32)]
}
