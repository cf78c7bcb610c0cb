package qemu

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Terminal is what people sit at: the three files of a process.
type Terminal struct {
	In       *os.File
	Out, Err *os.File
}

// IsTerminal claims that the VM's console can be used interactively there.
func (t Terminal) IsTerminal() bool {
	_, err := unix.IoctlGetTermios(int(t.In.Fd()), unix.TCGETS)
	return err == nil && !t.background()
}

// background claims that the terminal belongs to another job now. Who touches its settings is then stopped (SIGTTOU in
// termios(3)), and would neither be killed nor run out of time.
func (t Terminal) background() bool {
	group, err := unix.IoctlGetInt(int(t.In.Fd()), unix.TIOCGPGRP)
	return err == nil && group != unix.Getpgrp()
}

// Attach boots the VM with its console on the terminal, and returns when QEMU has ended. The settings of the terminal are
// then what they were before, however QEMU ended: QEMU makes the terminal raw, and restores it only if it is not killed.
// The error is ctx's when ctx ended first.
func Attach(ctx context.Context, vm VM, console Console, t Terminal) error {
	cmd, err := command(ctx, vm, console.Args(t.IsTerminal()))
	if err != nil {
		return err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = t.In, t.Out, t.Err
	if t.background() {
		cmd.Stdin = nil
	}
	restore := t.save()
	defer restore()
	e := &processEngine{console: NewTranscript(), done: make(chan struct{}), cancel: func() {}}
	started := make(chan error)
	go e.run(ctx, cmd, started)
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	<-e.done
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the guest was killed: %w", context.Cause(ctx))
	case e.err != nil:
		return fmt.Errorf("%s: %w", cmd.Path, e.err)
	}
	return nil
}

// save returns a function that brings back the settings that the terminal has now; it does nothing where there is none.
func (t Terminal) save() (restore func()) {
	fd := int(t.In.Fd())
	settings, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil || t.background() {
		return func() {}
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, settings) }
}
