package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"veneer/vmtests/qemu"
)

const diskTitle = "A disk that firmware starts"

// The build files of a disk, and of its images alone.
const (
	diskConfig   = "veneer-disk.toml"
	imagesConfig = "veneer-images.toml"
)

// DiskFigures are seconds, one value a round.
type DiskFigures struct {
	Direct, UEFI []float64 // uptime of the guest when the first program of the merged root runs
	Images, Disk []float64 // of veneer build
}

// TimeDisk boots one disk through UEFI, and with its kernel and initramfs given directly, and times its build against that of the images
// alone, in turns. The clock of a guest begins with its kernel: what the firmware takes is not in it.
func (l *Lab) TimeDisk(ctx context.Context, cache string, rounds int) (f DiskFigures, err error) {
	if err := l.makeTree(ctx, baseTree); err != nil {
		return f, err
	}
	const out = "veneer-disk-out"
	for range rounds {
		for _, build := range []struct {
			config, out string
			seconds     *[]float64
		}{{imagesConfig, "timed", &f.Images}, {diskConfig, out, &f.Disk}} {
			begin := time.Now()
			if err := l.veneerBuild(ctx, build.out, build.config); err != nil {
				return f, err
			}
			*build.seconds = append(*build.seconds, time.Since(begin).Seconds())
			fmt.Fprintf(l.Say, "bench: veneer build -f %s took %.1f s\n", build.config, (*build.seconds)[len(*build.seconds)-1])
		}
	}
	if err := os.RemoveAll(l.path("timed")); err != nil {
		return f, err
	}
	verdict, err := qemu.Probe{Arch: arch, Kernel: l.path(out, "vmlinuz"), Override: os.Getenv("VENEER_ACCEL"), CacheDir: cache}.Run(ctx)
	if err != nil {
		return f, err
	}
	vars := l.path("disk.vars")
	defer os.Remove(vars)
	for range rounds {
		for _, boot := range []struct {
			firmware bool
			seconds  *[]float64
		}{{false, &f.Direct}, {true, &f.UEFI}} {
			vm := qemu.VM{Arch: arch, Accel: verdict.Accel, MemoryMiB: 1024, NoReboot: true, Disks: []qemu.Disk{{Path: l.path(out, "disk.img"), Snapshot: true}}}
			if boot.firmware {
				if vm.Firmware, err = qemu.UEFI(arch, false, vars); err == nil {
					err = vm.Firmware.Prepare(true)
				}
			} else {
				vm.Kernel, vm.Initrd, vm.Append = l.path(out, "vmlinuz"), l.path(out, "initramfs.cpio.zst"), []string{"console=ttyS0", "quiet", "panic=-1", "init=/bench-init"}
			}
			if err != nil {
				return f, err
			}
			sample, err := l.bootVM(ctx, vm, Peer{Name: "disk"}, Merged)
			if err != nil {
				return f, fmt.Errorf("boot a disk: %w", err)
			}
			*boot.seconds = append(*boot.seconds, sample.Uptime)
			fmt.Fprintf(l.Say, "bench: a disk, firmware %v, %.2f s\n", boot.firmware, sample.Uptime)
		}
	}
	return f, nil
}

func (f DiskFigures) section(rounds int) Section {
	var b strings.Builder
	fmt.Fprintf(&b, "The bench's Debian; medians of %d, in turns. The clock of a guest begins with its kernel. A disk takes at most 1.2 times its images alone to build.\n\n", rounds)
	b.WriteString("| | time | ratio |\n|---|---:|---:|\n")
	direct, images := median(f.Direct), median(f.Images)
	for _, row := range []struct {
		title       string
		value, base float64
	}{{"merged root, kernel and initramfs given directly", direct, direct}, {"merged root, from UEFI by the UKI on the disk", median(f.UEFI), direct},
		{"`veneer build` of the images alone", images, images}, {"`veneer build` of a disk", median(f.Disk), images}} {
		fmt.Fprintf(&b, "| %s | %.2f s | %.2f |\n", row.title, row.value, ratio(row.value, row.base))
	}
	return Section{diskTitle, b.String()}
}
