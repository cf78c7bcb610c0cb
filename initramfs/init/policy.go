package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/stage"
)

const (
	// stuckMargin is how much longer than the deadline for devices one step may take: a read that hangs in the kernel cannot
	// be called off, but the machine must not hang with it.
	stuckMargin = 60 * time.Second
	// readingTime is how long a failure stays on the console when panic= says nothing.
	readingTime = 10 * time.Second
)

// fail says what went wrong and carries out the policy. It never returns.
func (p *pid1) fail(err error) {
	l, policy := p.log, p.runner.OnFail
	if policy == boot.Ephemeral { // what could be gone on without was gone on without
		policy = boot.Reboot
	}
	l.loud()
	var step *stage.StepError
	name := p.runner.Step()
	cause := err
	if errors.As(err, &step) {
		name, cause = step.Step, step.Err
	}
	l.line(stage.Bad, "FAILED at step: "+name)
	l.line(stage.Bad, fmt.Sprintf("cause: %v", cause))
	for _, remedy := range stage.Remedies(name, err) {
		l.line(stage.Bad, "try: "+remedy)
	}
	if policy == boot.Shell && needShell("") != nil {
		// A machine far away must not stand still because somebody asked for a shell that it does not have.
		if policy = p.builtIn; policy == boot.Shell || policy == "" {
			policy = boot.Reboot
		}
		l.line(stage.Bad, fmt.Sprintf("on-fail=shell, but no rescue shell was built in; the initramfs says %s", policy))
	}
	if policy == boot.Shell {
		_ = writeRecord(&p.runner.Record, l)
		l.line(stage.Bad, "log: "+stage.LogPath+"; next: a rescue shell, and a reboot when it ends")
		if err := runShell(); err != nil {
			l.line(stage.Bad, fmt.Sprintf("rescue shell: %v", err))
		}
		reboot(l, unix.LINUX_REBOOT_CMD_RESTART)
	}
	if err := p.runner.Unwind(); err != nil {
		l.line(stage.Bad, fmt.Sprintf("while taking back what was done: %v", err))
	}
	p.end(policy)
}

// end stops the machine as policy says, after the failure has stood on the console for as long as panic= wants.
func (p *pid1) end(policy boot.OnFail) {
	wait := readingTime
	if n := p.config.Panic; n != nil {
		wait = time.Duration(*n) * time.Second
	}
	forever := p.config.Panic != nil && *p.config.Panic == 0
	if policy == boot.Halt || forever {
		p.log.line(stage.Bad, "log: the lines above; next: halt")
		p.log.flush()
		unix.Sync()
		hang()
	}
	p.log.line(stage.Bad, fmt.Sprintf("log: the lines above; next: %s in %s", policy, max(wait, 0)))
	p.log.flush()
	time.Sleep(wait) // for the reader's eyes; nothing waits for anything
	if policy == boot.Poweroff {
		reboot(p.log, unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	reboot(p.log, unix.LINUX_REBOOT_CMD_RESTART)
}

// stuck ends a boot whose step overran every bound. It runs beside the stuck step and so does not unwind.
func (p *pid1) stuck(step string) {
	p.log.line(stage.Bad, fmt.Sprintf("FAILED at step: %s", step))
	p.log.line(stage.Bad, fmt.Sprintf("cause: no answer from the kernel in %s, a device hangs", p.runner.Bound))
	policy := p.runner.OnFail
	if policy == boot.Shell || policy == boot.Ephemeral {
		policy = boot.Reboot // the console may hang with the device
	}
	p.end(policy)
}

func reboot(l *log, cmd int) {
	unix.Sync()
	if err := unix.Reboot(cmd); err != nil {
		l.line(stage.Bad, fmt.Sprintf("reboot(%#x): %v", cmd, err))
	}
	hang()
}

// pause is veneer.break=.
func (p *pid1) pause(step string) error {
	if p.config.Break != step {
		return nil
	}
	p.log.line(stage.Bad, fmt.Sprintf("stopped before step %q, as veneer.break= asks; the boot goes on when the shell ends", step))
	if err := writeRecord(&p.runner.Record, p.log); err != nil { // as far as it goes, for whoever looks around
		return err
	}
	return runShell()
}

// runShell runs the rescue shell on the console until it ends, and buries what else dies meanwhile.
func runShell() error {
	console, err := os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer console.Close()
	attr := &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"PATH=/bbin:/bin:/sbin:/usr/bin", "HOME=/", "TERM=linux"},
		Files: []*os.File{console, console, console},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: true},
	}
	shell, err := os.StartProcess(shellPath, []string{"sh"}, attr)
	if err != nil {
		attr.Sys.Setctty = false // some consoles cannot be a controlling terminal; then ^C does not work
		if shell, err = os.StartProcess(shellPath, []string{"sh"}, attr); err != nil {
			return err
		}
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid == shell.Pid {
			return err
		}
	}
}
