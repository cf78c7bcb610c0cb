//go:build !onboard

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/spf13/cobra"

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
		Use:   "run [out/ | disk.img]",
		Short: "Boot a build output or a disk in QEMU",
		Long: `Boot the output of 'veneer build' in QEMU, with the serial console on the terminal: Ctrl-A X ends QEMU, Ctrl-A H shows
more keys. What the guest writes is kept between runs, until the next build or --fresh.

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
	flags.StringVar(&f.memory, "memory", "1G", "memory of the guest, with M or G")
	flags.IntVar(&f.cpus, "cpus", 1, "CPUs of the guest")
	flags.StringArrayVar(&f.append, "append", nil, "more of the kernel command line (repeatable)")
	flags.StringArrayVar(&f.disks, "disk", nil, "one more disk: FILE, then any of ,bus=virtio-blk|virtio-scsi|ahci|nvme|usb|uas|sd|cdrom\n"+
		",format=raw|qcow2 ,serial=TEXT ,readonly ,snapshot (repeatable; a comma in FILE is written twice)")
	flags.BoolVar(&f.fresh, "fresh", false, "forget what the guest wrote in earlier runs")
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
	medium, err := qemu.OpenMedium(path, f.arch)
	if err != nil {
		return err
	}
	vm, err := f.machine(medium.VM)
	if err != nil {
		return usageError{err}
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
	if err := medium.PrepareState(ctx, f.fresh); err != nil {
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

// machine adds what the flags say to the VM of the medium. All problems are reported at once.
func (f runFlags) machine(vm qemu.VM) (qemu.VM, error) {
	var errs []error
	size, err := boot.ParseSize(f.memory)
	switch {
	case err != nil:
		errs = append(errs, fmt.Errorf("--memory: %w", err))
	case size.Percent > 0:
		errs = append(errs, fmt.Errorf("--memory %s: want an amount, such as 512M", f.memory))
	}
	if len(f.append) > 0 && vm.Kernel == "" {
		errs = append(errs, errors.New("--append needs a build output; a disk file brings its own command line"))
	}
	for _, s := range f.disks {
		disk, err := qemu.ParseDisk(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("--disk: %w", err))
			continue
		}
		vm.Disks = append(vm.Disks, disk)
	}
	vm.MemoryMiB, vm.CPUs = int(size.Bytes>>20), f.cpus
	vm.Append = append(vm.Append, f.append...)
	vm.Net, vm.Display = f.net, f.display
	if len(errs) == 0 {
		_, err := vm.Args()
		errs = append(errs, err)
	}
	return vm, errors.Join(errs...)
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
