package qemu

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// Console says what becomes of the console of a VM beside the transcript.
type Console struct {
	Log  string    // a file that gets every byte; QEMU writes it
	Echo io.Writer // gets every byte while the guest runs; may be nil
}

// Args returns the arguments that put the first serial port on QEMU's standard input and output. On a terminal, QEMU's own
// monitor shares it: Ctrl-A H shows the keys, Ctrl-A X ends QEMU.
func (c Console) Args(terminal bool) []string {
	if c.Log == "" {
		if terminal {
			return []string{"-serial", "mon:stdio"}
		}
		return []string{"-serial", "stdio", "-monitor", "none"}
	}
	stdio := "stdio,id=console,logfile=" + escape(c.Log)
	if terminal {
		return []string{"-chardev", stdio + ",mux=on,signal=off", "-serial", "chardev:console", "-mon", "chardev=console"}
	}
	return []string{"-chardev", stdio, "-serial", "chardev:console", "-monitor", "none"}
}

// Spawn boots the VM with its console on pipes and returns at once. The guest is killed when ctx ends, and also when this
// process dies. Unlike Start it leaves a reset to the VM, keeps QEMU's standard error, and passes on each byte unchanged.
func Spawn(ctx context.Context, vm VM, console Console) (*Guest, error) {
	ctx, cancel := context.WithCancel(ctx)
	e := &processEngine{console: NewTranscript(), done: make(chan struct{}), cancel: cancel}
	cmd, err := command(ctx, vm, console.Args(false))
	if err != nil {
		cancel()
		return nil, err
	}
	cmd.Stdout = io.Writer(e.console)
	if console.Echo != nil {
		cmd.Stdout = io.MultiWriter(e.console, console.Echo)
	}
	cmd.Stderr = &e.stderr
	if e.stdin, err = cmd.StdinPipe(); err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	started := make(chan error)
	go e.run(ctx, cmd, started)
	if err := <-started; err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return &Guest{Transcript: e.console, engine: e}, nil
}

// command prepares QEMU as a child that is asked to quit when ctx ends, killed when it does not, and that dies with us.
func command(ctx context.Context, vm VM, console []string) (*exec.Cmd, error) {
	program, err := findProgram(vm.Arch)
	if err != nil {
		return nil, err
	}
	args, err := vm.Args()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, append(args, console...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // QEMU then closes its images in order
	cmd.WaitDelay = killGrace
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

// processEngine is a QEMU that is our own child.
type processEngine struct {
	console *Transcript
	stdin   io.WriteCloser
	stderr  bytes.Buffer // complete when done is closed
	cancel  context.CancelFunc
	done    chan struct{}
	how     End
	err     error
}

// run starts QEMU and waits for it on one thread of its own: the kernel sends the signal of PR_SET_PDEATHSIG when the
// thread that made the child ends, not the process (prctl(2)).
func (e *processEngine) run(ctx context.Context, cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	err := cmd.Start()
	started <- err
	if err != nil {
		return
	}
	e.err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		e.how = Killed
	case e.err == nil:
		e.how = PoweredOff
	default:
		e.how = Crashed
	}
	e.cancel()
	e.console.Close()
	close(e.done)
}

func (e *processEngine) send(text string) error {
	_, err := io.WriteString(e.stdin, text)
	return err
}

func (e *processEngine) gone() <-chan struct{} { return e.done }

func (e *processEngine) end() (End, string) {
	words := strings.TrimSpace(e.stderr.String())
	if e.how == Crashed {
		words = strings.TrimSpace(words + "\n" + e.err.Error())
	}
	return e.how, words
}

func (e *processEngine) kill() {
	e.cancel()
	<-e.done
}
