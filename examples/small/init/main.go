//go:build linux

// Command init is PID 1 of the small base. In this order it
//
//   - mounts /dev, /proc, /sys and /run, unless whoever started it has done so;
//   - sets the host name and brings the loopback interface up;
//   - runs a shell on the console, and another when that ends, and collects what else ends;
//   - on SIGUSR1, SIGUSR2 and SIGTERM (halt, power off, reboot, as busybox understands them) stops every process and goes back
//     into the initramfs, which takes the root apart.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	console = "/dev/console"
	shell   = "/bin/sh"
)

// grace is how long processes have between SIGTERM and SIGKILL.
const grace = 2 * time.Second

// verbs are the signals and what they ask for, in the words of the exitrd interface.
var verbs = map[os.Signal]string{unix.SIGUSR1: "halt", unix.SIGUSR2: "poweroff", unix.SIGTERM: "reboot"}

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: this program is PID 1; to stop the machine: poweroff, reboot")
		os.Exit(2)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTERM, unix.SIGCHLD)
	for _, err := range []error{mounts(), hostname(), loopback()} {
		if err != nil {
			fmt.Fprintf(os.Stderr, "init: %v\n", err)
		}
	}
	fmt.Println("small: veneer status, poweroff, reboot")
	running := startShell()
	for s := range signals {
		if verb, ok := verbs[s]; ok {
			stopAll(signals)
			fmt.Fprintf(os.Stderr, "init: %v\n", leave(verb))
			hang()
		}
		if reap(running) {
			running = startShell()
		}
	}
}

// mounts makes what the kernel itself does not, where it is not there.
func mounts() error {
	var errs []error
	for _, m := range []struct{ kind, target string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/run"}} {
		var here, root unix.Stat_t
		if err := errors.Join(unix.Stat(m.target, &here), unix.Stat("/", &root)); err != nil || here.Dev != root.Dev {
			errs = append(errs, err)
			continue
		}
		if err := unix.Mount(m.kind, m.target, m.kind, unix.MS_NOSUID, ""); err != nil {
			errs = append(errs, &os.PathError{Op: "mount", Path: m.target, Err: fmt.Errorf("%s: %w", m.kind, err)})
		}
	}
	return errors.Join(errs...)
}

func hostname() error {
	name, err := os.ReadFile("/etc/hostname")
	if err != nil {
		return err
	}
	return unix.Sethostname([]byte(strings.TrimSpace(string(name))))
}

// loopback brings up lo, which the kernel leaves down and every program takes for granted.
func loopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}

// startShell returns the shell's process number, or 0 where none could be started.
func startShell() int {
	tty, err := os.OpenFile(console, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		fmt.Fprintf(os.Stderr, "init: %v\n", err)
		return 0
	}
	defer tty.Close()
	attr := &os.ProcAttr{
		Dir:   "/root",
		Env:   []string{"PATH=/usr/local/bin:/usr/bin:/usr/sbin", "HOME=/root", "TERM=linux", "USER=root", "SHELL=" + shell},
		Files: []*os.File{tty, tty, tty},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: true},
	}
	p, err := os.StartProcess(shell, []string{shell}, attr)
	if err != nil {
		attr.Sys.Setctty = false // some consoles cannot be a controlling terminal; then ^C does not work
		p, err = os.StartProcess(shell, []string{shell}, attr)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "init: start %s: %v\n", shell, err)
		return 0
	}
	return p.Pid
}

// reap collects each process that has ended, and reports whether wanted is one of them.
func reap(wanted int) (ended bool) {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return ended
		}
		ended = ended || pid == wanted
	}
}

// stopAll ends every other process, those that do not listen by force.
func stopAll(signals <-chan os.Signal) {
	_ = unix.Kill(-1, unix.SIGTERM) // fails where there is none
	late := time.After(grace)
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if pid > 0 || errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.ECHILD) {
			return
		}
		select {
		case <-signals:
		case <-late:
			_ = unix.Kill(-1, unix.SIGKILL)
			late = nil
		}
	}
}

// hang stops here for ever: PID 1 must not end, or the kernel panics.
func hang() {
	for {
		unix.Pause()
	}
}
