// Command bench boots the same Debian from the same disk on the same virtual machine with every kind of live or overlay
// initramfs that the field offers, and with Veneer, and writes the comparison as a table and a picture.
//
// It needs root (mmdebstrap and chroot make the peers' initramfs with the peers' own tools), Debian's archive for the
// first run, and these packages: qemu-system-x86 mmdebstrap squashfs-tools e2fsprogs cryptsetup-bin busybox-static cpio
// zstd minisign. What it makes is kept in the cache; removing the directory makes it anew.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
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

func run(ctx context.Context) error {
	out := flag.String("out", "docs/bench", "directory of bench.md and bench.svg")
	rounds := flag.Int("rounds", 3, "boots of each kind for each peer")
	only := flag.String("peers", "", "boot only these, by name, separated by commas (default all)")
	command := flag.String("veneer", "", "the veneer command (default: built from this module)")
	flag.Parse()
	if os.Geteuid() != 0 {
		return errors.New("the peers' trees are made with mmdebstrap and chroot; run as root")
	}
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	lab := Lab{Dir: filepath.Join(cache, "bench"), Veneer: *command, Say: os.Stderr}
	peers, err := lab.Prepare(ctx, *only)
	if err != nil {
		return err
	}
	verdict, err := qemu.Probe{Arch: arch, Kernel: lab.kernel(), Override: os.Getenv("VENEER_ACCEL"), CacheDir: cache}.Run(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "bench: accelerator %s: %s\n", verdict.Accel, verdict.Why)
	samples, err := lab.Measure(ctx, peers, verdict.Accel, *rounds)
	if err != nil {
		return err
	}
	builds, err := lab.TimeBuilds(ctx, peers, *rounds)
	if err != nil {
		return err
	}
	report := Report{Machine: lab.machine(ctx, verdict.Accel), Rounds: *rounds, Rows: summarize(peers, samples), Builds: builds}
	return report.Write(*out)
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
