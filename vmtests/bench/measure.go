package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"veneer/vmtests/qemu"
)

// Moment is a point in a boot at which the guest tells its uptime.
type Moment string

// The moments, each measured in a boot of its own.
const (
	Merged Moment = "merged" // the first program of the merged root runs
	Ready  Moment = "ready"  // systemd has reached multi-user.target
)

// Sample is what one boot has told.
type Sample struct {
	Peer      string
	Moment    Moment
	Uptime    float64 // seconds, of the guest
	Available int     // KiB of memory left; only at Merged
}

// bootLimit bounds one boot; the slowest peer needs about a minute under TCG on two busy cores.
const bootLimit = 5 * time.Minute

var told = regexp.MustCompile(`BENCH uptime=([0-9.]+) available=(\d+) writable=(yes|no);`)

// Measure boots every peer to every moment, rounds times. A round goes through all peers before the next one begins, so
// that a busy spell of the host does not fall on one peer alone.
func (l *Lab) Measure(ctx context.Context, peers []Peer, accel qemu.Accel, rounds int) ([]Sample, error) {
	for _, peer := range peers {
		if !peer.Settles {
			continue
		}
		first := peer
		first.Disks = slices.Clone(peer.Disks)
		for i := range first.Disks {
			first.Disks[i].Snapshot = false
		}
		if _, err := l.boot(ctx, first, Ready, accel); err != nil {
			return nil, fmt.Errorf("first boot of %s: %w", peer.Name, err)
		}
	}
	var samples []Sample
	for round := range rounds {
		for _, moment := range []Moment{Merged, Ready} {
			for _, peer := range peers {
				sample, err := l.boot(ctx, peer, moment, accel)
				if err != nil {
					return nil, fmt.Errorf("boot %s to %s: %w", peer.Name, moment, err)
				}
				fmt.Fprintf(l.Say, "bench: round %d/%d %-18s %-6s %6.2f s\n", round+1, rounds, peer.Name, moment, sample.Uptime)
				samples = append(samples, sample)
			}
		}
	}
	return samples, nil
}

// machineFor returns the one machine that every peer boots on; only initramfs, disks and command line differ.
func (l *Lab) machineFor(peer Peer, moment Moment, accel qemu.Accel) qemu.VM {
	vm := qemu.VM{Arch: arch, Accel: accel, MemoryMiB: 1024, CPUs: 1, NoReboot: true,
		Kernel: l.kernel(), Initrd: peer.Initrd, Disks: peer.Disks,
		Append: append([]string{"console=ttyS0", "quiet", "panic=-1"}, peer.Append...)}
	if moment == Merged {
		vm.Append = append(vm.Append, "init=/bench-init")
	}
	return vm
}

func (l *Lab) boot(ctx context.Context, peer Peer, moment Moment, accel qemu.Accel) (Sample, error) {
	return l.bootVM(ctx, l.machineFor(peer, moment, accel), peer, moment)
}

// bootVM boots a machine until it tells its uptime.
func (l *Lab) bootVM(ctx context.Context, vm qemu.VM, peer Peer, moment Moment) (Sample, error) {
	guest, err := qemu.Spawn(ctx, vm, qemu.Console{})
	if err != nil {
		return Sample{}, err
	}
	defer guest.Kill()
	words, err := guest.Expect(ctx, bootLimit, told)
	if err != nil {
		return Sample{}, err
	}
	if words[3] != "yes" {
		return Sample{}, fmt.Errorf("the merged root cannot be written")
	}
	return newSample(peer.Name, moment, words[1], words[2])
}

func newSample(peer string, moment Moment, uptime, available string) (Sample, error) {
	seconds, err := strconv.ParseFloat(uptime, 64)
	if err != nil {
		return Sample{}, err
	}
	memory, err := strconv.Atoi(available)
	return Sample{peer, moment, seconds, memory}, err
}

// Build is the time that making one base image took.
type Build struct {
	Title   string
	Seconds []float64
}

// TimeBuilds times `veneer build` against bare mksquashfs on the same tree, in turns.
func (l *Lab) TimeBuilds(ctx context.Context, rounds int) ([]Build, error) {
	if err := l.makeTree(ctx, baseTree); err != nil {
		return nil, err
	}
	builds := []Build{{Title: "bare mksquashfs"}, {Title: "veneer build"}}
	bare := l.path("time.squashfs")
	defer os.Remove(bare)
	for range rounds {
		for i, build := range []func() error{
			func() error {
				_, err := output(ctx, "mksquashfs", l.path(baseTree), bare, "-comp", "zstd", "-noappend", "-quiet", "-no-progress")
				return err
			},
			func() error { return l.veneerBuild(ctx, "timed", verifiedConfig) },
		} {
			begin := time.Now()
			if err := build(); err != nil {
				return nil, err
			}
			builds[i].Seconds = append(builds[i].Seconds, time.Since(begin).Seconds())
			fmt.Fprintf(l.Say, "bench: %s took %.1f s\n", builds[i].Title, builds[i].Seconds[len(builds[i].Seconds)-1])
		}
	}
	return builds, os.RemoveAll(l.path("timed"))
}

// warnIfBusy tells when other programs would be measured too: under TCG the guest's clock goes on while QEMU waits for a CPU.
func (l *Lab) warnIfBusy() {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return // only a courtesy
	}
	word, _, _ := strings.Cut(string(content), " ")
	if load, err := strconv.ParseFloat(word, 64); err == nil && load > 0.5 {
		fmt.Fprintf(l.Say, "bench: the host is busy (load %s), the numbers will be too high; stop what else runs\n", word)
	}
}

// machine describes what the numbers were measured on.
func (l *Lab) machine(ctx context.Context, accel qemu.Accel) string {
	version, err := output(ctx, "qemu-system-x86_64", "--version")
	if err != nil {
		version = "QEMU"
	}
	first, _, _ := strings.Cut(version, "\n")
	return fmt.Sprintf("%s, %s, q35 with 1 CPU and 1024 MiB, Linux %s, on a host with %d CPUs", first, strings.ToUpper(string(accel)), l.release, runtime.NumCPU())
}
