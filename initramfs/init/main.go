// Command init is PID 1 of the initramfs: early mounts, the console, the machine, stage.Boot, and then either the switch to the
// merged root or the policy for a failure. Called as "shutdown" it is the exitrd that takes the merged root down again.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/boot/switchroot"
	"veneer/initramfs/machine"
	"veneer/stage"
)

// memoryLimit keeps the collector away until there is something to collect: this process lives for a fraction of a second.
const memoryLimit = 32 << 20

// maxWorkers bounds the workers of one step: what they wait for most, locks of the kernel, more of them would wait for too.
const maxWorkers = 4

func main() {
	if os.Getpid() != 1 {
		beside()
		fmt.Fprintln(os.Stderr, "init: this program is PID 1 of an initramfs; to see what it would do: veneer plan")
		os.Exit(2)
	}
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(memoryLimit)
	if filepath.Base(os.Args[0]) == "shutdown" {
		exitrd()
	}
	p := &pid1{log: newLog()}
	p.runner = stage.Runner{Log: p.log.line, Uptime: uptime, OnFail: boot.Reboot, Stuck: p.stuck, Before: p.pause,
		Workers: min(runtime.NumCPU(), maxWorkers)}
	p.runner.Record.Format = stage.RecordFormat
	p.runner.Record.Veneer = boot.Version
	p.runner.Record.Started = stage.MicrosOf(uptime())
	p.fail(p.boot(context.Background()))
}

// pid1 is the state of this process.
type pid1 struct {
	log    *log
	runner stage.Runner
	config boot.Config
	// builtIn is the policy of the initramfs.
	builtIn boot.OnFail
}

// boot goes all the way to the next init. It returns only on failure, which a panic is too.
func (p *pid1) boot(ctx context.Context) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &stage.StepError{Step: p.runner.Step(), Err: fmt.Errorf("panic, which is a bug in veneer: %v\n%s", v, debug.Stack())}
		}
	}()
	r := &p.runner
	if _, err := stage.Do(ctx, r, stage.StepEarlyMounts, func(context.Context) (struct{}, error) { return struct{}{}, earlyMounts(p.log) }); err != nil {
		return err
	}
	env, err := stage.Do(ctx, r, stage.StepCommandLine, func(context.Context) (stage.Env, error) { return p.readEnv() })
	if err != nil {
		return err
	}
	m, err := machine.New(r.Record.Kernel)
	if err != nil {
		return &stage.StepError{Step: stage.StepDrivers, Err: err}
	}
	m.Detail = r.Detailf
	root, err := stage.Boot(ctx, r, m, env)
	if err != nil {
		return err
	}
	if _, err := stage.Do(ctx, r, stage.StepHandOver, func(context.Context) (struct{}, error) {
		return struct{}{}, errors.Join(m.Close(), handOver(&r.Record), p.leaveBeside())
	}); err != nil {
		return err
	}
	_, err = stage.Do(ctx, r, stage.StepSwitchRoot, func(context.Context) (struct{}, error) {
		p.log.line(stage.Good, fmt.Sprintf("[%d/%d] %s ... %s", len(stage.Steps), len(stage.Steps), stage.StepSwitchRoot, root.Init))
		if err := writeRecord(&r.Record, p.log); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, switchroot.Switch(root.Dir, root.Init, os.Args[1:], os.Environ())
	})
	return err
}

// exitrd never returns.
func exitrd() {
	log := newLog()
	log.open()
	err := switchroot.Shutdown(os.Args[1:], func(line string) { log.line(stage.Good, "shutdown: "+line) })
	log.line(stage.Bad, "shutdown: "+err.Error())
	hang()
}

// hang stops here for ever: PID 1 must not end, or the kernel panics.
func hang() {
	for {
		unix.Pause()
	}
}

// uptime is the time since the kernel started, which is also what /proc/uptime shows.
func uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
