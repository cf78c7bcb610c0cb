// Command bench boots the same Debian from the same disk on the same virtual machine with every kind of live or overlay
// initramfs that the field offers, and with Veneer, times what the state promises, and writes tables and a picture.
//
// It needs root (mmdebstrap and chroot make the peers' initramfs with the peers' own tools), Debian's archive for the
// first run, and these packages: qemu-system-x86 mmdebstrap squashfs-tools e2fsprogs cryptsetup-bin busybox-static cpio
// zstd minisign btrfs-progs xfsprogs. What it makes is kept in the cache; removing the directory makes it anew.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"veneer/vmtests/qemu"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// parts are the words of -only, in the order in which they are measured.
var parts = []string{"merge", "diff", "reset", "state", "boot", "build", "disk"}

func run(ctx context.Context) error {
	out := flag.String("out", "docs/bench", "directory of bench.md and bench.svg")
	rounds := flag.Int("rounds", 3, "times that each thing is measured")
	only := flag.String("only", "", "measure only these parts, separated by commas: "+strings.Join(parts, ", ")+" (default all)")
	peers := flag.String("peers", "", "in the part boot, boot only these, by name, separated by commas (default all)")
	command := flag.String("veneer", "", "the veneer command (default: built from this module)")
	flag.Parse()
	wanted, err := wantedParts(*only)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("file systems are mounted, and the peers' trees made with mmdebstrap and chroot; run as root")
	}
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	lab := &Lab{Dir: filepath.Join(cache, "bench"), Veneer: *command, Say: os.Stderr}
	lab.warnIfBusy()
	for _, part := range wanted {
		sections, picture, err := lab.part(ctx, part, *peers, cache, *rounds)
		if err != nil {
			return err
		}
		if err := write(*out, sections, picture); err != nil {
			return err
		}
	}
	return nil
}

func wantedParts(only string) ([]string, error) {
	if only == "" {
		return parts, nil
	}
	var wanted []string
	for _, word := range strings.Split(only, ",") {
		if !slices.Contains(parts, word) {
			return nil, fmt.Errorf("-only: there is no part %q, only %s", word, strings.Join(parts, ", "))
		}
		wanted = append(wanted, word)
	}
	return wanted, nil
}

// part measures one part, and returns its sections, and the picture if it has one.
func (l *Lab) part(ctx context.Context, part, peers, cache string, rounds int) ([]Section, string, error) {
	switch part {
	case "boot":
		r, err := l.boots(ctx, peers, cache, rounds, volatile)
		return []Section{r.section(bootTitle, "The same Debian, kernel and virtual machine for every row.")}, r.SVG(), err
	case "state":
		r, err := l.boots(ctx, "veneer,veneer-state", cache, rounds, everyPeer)
		return []Section{r.section(stateTitle, "At most 1.15 times. The state is on the store's ext4, and its journal is replayed: the boot before was cut off.")}, "", err
	case "disk":
		f, err := l.TimeDisk(ctx, cache, rounds)
		return []Section{f.section(rounds)}, "", err
	case "build":
		builds, err := l.TimeBuilds(ctx, rounds)
		return []Section{buildSection(builds, rounds)}, "", err
	}
	g := gauges[slices.IndexFunc(gauges, func(g Gauge) bool { return g.Part == part })]
	figures, err := l.Take(ctx, g, rounds)
	return []Section{g.section(figures, host(), rounds)}, "", err
}

// boots measures the peers that are asked for.
func (l *Lab) boots(ctx context.Context, only, cache string, rounds int, which func(name string) bool) (Report, error) {
	peers, err := l.Prepare(ctx, only, which)
	if err != nil {
		return Report{}, err
	}
	verdict, err := qemu.Probe{Arch: arch, Kernel: l.kernel(), Override: os.Getenv("VENEER_ACCEL"), CacheDir: cache}.Run(ctx)
	if err != nil {
		return Report{}, err
	}
	fmt.Fprintf(l.Say, "bench: accelerator %s: %s\n", verdict.Accel, verdict.Why)
	samples, err := l.Measure(ctx, peers, verdict.Accel, rounds)
	if err != nil {
		return Report{}, err
	}
	return Report{Machine: l.machine(ctx, verdict.Accel), Rounds: rounds, Rows: summarize(peers, samples)}, nil
}

func cacheDir() (string, error) {
	if dir := os.Getenv("VENEER_CACHE"); dir != "" {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("%w; set VENEER_CACHE", err)
	}
	return filepath.Join(home, ".cache", "veneer"), nil
}
