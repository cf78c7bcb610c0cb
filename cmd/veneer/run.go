//go:build !onboard

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/vmtests/qemu"
)

// expectLimit is the --timeout of a run that has expectations and names none: a boot test must end.
const expectLimit = 10 * time.Minute

// runFlags are the flags of `veneer run`.
type runFlags struct {
	memory  string
	cpus    int
	append  []string
	disks   []string
	fresh   bool
	uefi    bool
	bios    bool
	secure  bool
	net     bool
	display string
	arch    string
	timeout time.Duration
	log     string
	dryRun  bool
	steps   []qemu.Step // of --expect and --send, in their order on the command line
}

func runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [out/ | disk.img | disk.qcow2]",
		Short: "Boot a build output or a disk in QEMU",
		Long: `Boot the output of 'veneer build' in QEMU, with the serial console on the terminal: Ctrl-A X ends QEMU, Ctrl-A H shows
more keys. What the guest writes to its disk is kept between runs, until the next build or --fresh. A run beside another
one of the same output gets a disk of its own, and its changes are thrown away.

--expect and --send make it a boot test: they are carried out in the order in which they stand on the command line. Each
--send is typed as soon as the --expect before it has been seen. When all were seen the VM is killed and the exit code
is 0. When one is not seen within --timeout, the tail of the console is shown and the exit code is 1.
A guest's terminal echoes what is typed: expect words that the --send before does not hold.

KVM is used where a guest boots under it, which is tried once after each boot of the host; VENEER_ACCEL=tcg or kvm
decides it by hand.`,
		Example: `  veneer run
  veneer run --memory 512M --append veneer.debug --disk data.qcow2,bus=usb
  veneer run --fresh --expect 'login: ' --send root --expect '# ' --send poweroff --expect 'Power down'`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "out"
			if len(args) == 1 {
				path = args[0]
			}
			return f.run(cmd, path)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.memory, "memory", "1G", "memory of the guest, with M or G; 64M at least")
	flags.IntVar(&f.cpus, "cpus", 1, "CPUs of the guest, up to 255")
	flags.StringArrayVar(&f.append, "append", nil, "more of the kernel command line (repeatable)")
	flags.StringArrayVar(&f.disks, "disk", nil, "one more disk: FILE, then any of ,bus=virtio-blk|virtio-scsi|ahci|nvme|usb|uas|sd|cdrom\n"+
		",format=raw|qcow2 ,serial=TEXT ,readonly ,snapshot (repeatable; a comma in FILE is written twice)")
	flags.BoolVar(&f.fresh, "fresh", false, "forget what the guest wrote in earlier runs")
	flags.BoolVar(&f.uefi, "uefi", false, "boot the disk from UEFI; of a build output it is the output \"disk\"")
	flags.BoolVar(&f.bios, "bios", false, "boot the disk from a BIOS, which is what a disk file gets on amd64")
	flags.BoolVar(&f.secure, "secure-boot", false, "UEFI that enforces Secure Boot once it has keys, and is in its setup mode until then")
	flags.BoolVar(&f.net, "net", false, "a network card behind QEMU's user network")
	flags.StringVar(&f.display, "display", "none", "a window, as QEMU's -display names it")
	flags.StringVar(&f.arch, "arch", "", "architecture of a disk file: amd64 or arm64 (default the host's)")
	flags.DurationVar(&f.timeout, "timeout", 0, "kill the guest after this time and fail (default none, 10m with --expect)")
	flags.Var(stepFlag{&f.steps, parseExpect, "regexp"}, "expect", "wait for this on the console (repeatable)")
	flags.Var(stepFlag{&f.steps, parseSend, "text"}, "send", "type this and Enter on the console (repeatable)")
	flags.StringVar(&f.log, "log", "", "write the console to this file too")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print QEMU's command line and do nothing")
	return cmd
}

// run boots what lies at path, in the way that the flags ask for.
func (f runFlags) run(cmd *cobra.Command, path string) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP) // the terminal was closed
	defer stop()
	asked, wrong := f.check()
	open := qemu.OpenMedium
	if f.uefi || f.bios || f.secure {
		open = qemu.OpenDisk
	}
	medium, err := open(path, f.arch)
	if wrong != nil || errors.Is(err, qemu.ErrNotADisk) {
		return usageError{errors.Join(wrong, err)}
	}
	if err != nil {
		return err
	}
	vm, err := f.machine(medium.VM, asked)
	if err != nil {
		return usageError{err}
	}
	if f.uefi || f.secure {
		if vm.Firmware, err = qemu.UEFI(vm.Arch, f.secure, medium.Vars()); err != nil {
			return err
		}
	}
	verdict, err := qemu.Probe{Arch: vm.Arch, Kernel: vm.Kernel, Override: os.Getenv("VENEER_ACCEL"), CacheDir: cacheDir()}.Run(ctx)
	if err != nil {
		return usageError{fmt.Errorf("VENEER_ACCEL: %w", err)}
	}
	vm.Accel = verdict.Accel
	terminal := qemu.Terminal{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	console := qemu.Console{Log: f.log}
	if f.dryRun {
		return f.print(cmd, vm, console.Args(len(f.steps) == 0 && terminal.IsTerminal()))
	}
	release, err := f.claim(ctx, cmd.ErrOrStderr(), medium, vm.Disks)
	if err != nil {
		return err
	}
	defer release()
	if err := vm.Firmware.Prepare(f.fresh); err != nil {
		return err
	}
	limit := f.timeout
	if limit == 0 && len(f.steps) > 0 {
		limit = expectLimit
	}
	if limit > 0 {
		late := fmt.Errorf("the guest still ran after %v", limit)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, late)
		defer cancel()
	}
	if len(f.steps) == 0 {
		return qemu.Attach(ctx, vm, console, terminal)
	}
	console.Echo = cmd.OutOrStdout()
	return f.converse(ctx, vm, console)
}

// claim makes the state of the medium ready, which is the first of the disks. While another run has it, this one gets a disk
// whose changes are thrown away instead, and says so: boot tests of one output may run side by side.
func (f runFlags) claim(ctx context.Context, w io.Writer, medium qemu.Medium, disks []qemu.Disk) (release func(), err error) {
	release, err = medium.Claim(ctx, f.fresh)
	if errors.Is(err, qemu.ErrInUse) {
		fmt.Fprintf(w, "veneer: %v, such as another 'veneer run': what this guest writes to its store is thrown away (--fresh: a state of its own)\n", err)
		disks[0], release, err = medium.Throwaway(), func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	// The disk below the state is only read, but nobody may write to it meanwhile.
	below := qemu.Disk{Path: medium.Base, ReadOnly: true}
	if err := qemu.CheckFree(append([]qemu.Disk{below}, disks...)...); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// converse carries out --expect and --send on a guest, and kills it.
func (f runFlags) converse(ctx context.Context, vm qemu.VM, console qemu.Console) error {
	// The guest has to outlive the deadline by a moment, lest its end hide what was awaited.
	guest, err := qemu.Spawn(context.WithoutCancel(ctx), vm, console)
	if err != nil {
		return err
	}
	defer guest.Kill()
	return guest.Play(ctx, f.steps)
}

func (f runFlags) print(cmd *cobra.Command, vm qemu.VM, console []string) error {
	program, err := vm.Program()
	if err != nil {
		return err
	}
	args, err := vm.Args()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), qemu.ShellQuote(append(append([]string{program}, args...), console...)))
	return err
}

// minMemory is less than any kernel and initramfs get by with, in MiB.
const minMemory = 64

// check turns the flags that need no medium into a VM, and reports all that is wrong with them.
func (f runFlags) check() (vm qemu.VM, err error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	size, err := boot.ParseSize(f.memory)
	vm.MemoryMiB, vm.CPUs, vm.Net, vm.Display = int(size.Bytes>>20), f.cpus, f.net, f.display
	if err != nil || vm.MemoryMiB < minMemory {
		bad("--memory %s: want an amount with its unit, such as 512M or 2G, and %dM at least", f.memory, minMemory)
	}
	if f.bios && (f.uefi || f.secure) {
		bad("--bios: contradicts --uefi and --secure-boot")
	}
	if f.cpus < 1 || f.cpus > qemu.MaxCPUs {
		bad("--cpus %d: want 1 to %d", f.cpus, qemu.MaxCPUs)
	}
	if f.timeout < 0 {
		bad("--timeout %v: want a time such as 90s or 5m", f.timeout)
	}
	if f.arch != "" && !slices.Contains(qemu.Arches(), f.arch) {
		bad("--arch %s: want %s", f.arch, strings.Join(qemu.Arches(), " or "))
	}
	if err := qemu.CheckDisplay(f.display); err != nil {
		bad("--display: %w", err)
	}
	if f.log != "" {
		if err := checkLog(f.log); err != nil {
			bad("--log %s: %w", f.log, err)
		}
	}
	for _, s := range f.disks {
		disk, err := qemu.ParseDisk(s)
		if err != nil {
			bad("--disk: %w", err)
		}
		vm.Disks = append(vm.Disks, disk)
	}
	return vm, errors.Join(errs...)
}

// checkLog reports why QEMU could not write to a file. It writes nothing.
func checkLog(path string) error {
	dir := filepath.Dir(path)
	switch info, err := os.Stat(dir); {
	case err != nil:
		return fmt.Errorf("directory %s: %w", dir, errors.Unwrap(err))
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	}
	target := path
	switch info, err := os.Stat(path); {
	case errors.Is(err, os.ErrNotExist):
		target = dir
	case err != nil:
		return errors.Unwrap(err)
	case info.IsDir():
		return errors.New("this is a directory: name a file in it")
	}
	if err := unix.Access(target, unix.W_OK); err != nil {
		return fmt.Errorf("nothing can be written to %s: %w", target, err)
	}
	return nil
}

// machine adds what the flags ask for to the VM of the medium. The error is about flags that contradict it.
func (f runFlags) machine(vm, asked qemu.VM) (qemu.VM, error) {
	if f.arch != "" && f.arch != vm.Arch {
		return vm, fmt.Errorf("--arch %s: the build output is for %s; leave it out", f.arch, vm.Arch)
	}
	if len(f.append) > 0 && vm.Kernel == "" {
		return vm, errors.New("--append needs a build output; a disk file brings its own command line")
	}
	vm.MemoryMiB, vm.CPUs, vm.Net, vm.Display = asked.MemoryMiB, asked.CPUs, asked.Net, asked.Display
	vm.Disks = append(vm.Disks, asked.Disks...)
	vm.Append = append(vm.Append, f.append...)
	_, err := vm.Args()
	return vm, err
}

// stepFlag appends to one list for two flags, which keeps the order between them.
type stepFlag struct {
	steps *[]qemu.Step
	parse func(string) (qemu.Step, error)
	kind  string
}

func (s stepFlag) String() string { return "" }
func (s stepFlag) Type() string   { return s.kind }

func (s stepFlag) Set(value string) error {
	step, err := s.parse(value)
	if err == nil {
		*s.steps = append(*s.steps, step)
	}
	return err
}

func parseExpect(s string) (qemu.Step, error) {
	re, err := regexp.Compile(s)
	return qemu.Step{Expect: re}, err
}

func parseSend(s string) (qemu.Step, error) { return qemu.Step{Send: s + "\r"}, nil }

// cacheDir is where verdicts about this machine are kept; empty where there is no home.
func cacheDir() string {
	if dir := os.Getenv("VENEER_CACHE"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "veneer")
}
