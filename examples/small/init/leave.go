//go:build linux

package main

// Before: the merged root is /, and nothing but this process uses it. /run/initramfs holds the exitrd.
// After: the exitrd is /, the merged root lies at /oldroot, and this process has become /shutdown.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	exitrd  = "/run/initramfs"
	program = "/shutdown"
)

// commands are what to do where there is no exitrd.
var commands = map[string]int{
	"halt":     unix.LINUX_REBOOT_CMD_HALT,
	"poweroff": unix.LINUX_REBOOT_CMD_POWER_OFF,
	"reboot":   unix.LINUX_REBOOT_CMD_RESTART,
}

// leave goes back into the initramfs, as systemd-shutdown does, so that nothing keeps the root busy while it is taken apart.
// Without one it stops the machine itself. It returns only on failure.
func leave(verb string) error {
	unix.Sync()
	if _, err := os.Stat(exitrd + program); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", verb, unix.Reboot(commands[verb]))
	}
	if err := pivot(); err != nil {
		return errors.Join(err, unix.Reboot(commands[verb]))
	}
	err := unix.Exec(program, []string{program, verb}, []string{"PATH=/bin:/bbin"})
	return errors.Join(fmt.Errorf("run %s%s: %w", exitrd, program, err), unix.Reboot(commands[verb]))
}

func pivot() error {
	// What is shared can be neither pivoted nor moved (pivot_root(2)).
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make / private: %w", err)
	}
	if err := bind(exitrd, exitrd); err != nil {
		return err
	}
	for _, dir := range []string{"/dev", "/proc", "/sys", "/run"} {
		to := filepath.Join(exitrd, dir)
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		if err := bind(dir, to); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(exitrd+"/oldroot", 0o755); err != nil {
		return err
	}
	if err := os.Chdir(exitrd); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "oldroot"); err != nil {
		return &os.PathError{Op: "pivot_root", Path: exitrd, Err: err}
	}
	if err := unix.Chroot("."); err != nil {
		return &os.PathError{Op: "chroot", Path: exitrd, Err: err}
	}
	return os.Chdir("/")
}

func bind(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return &os.PathError{Op: "mount --bind", Path: to, Err: fmt.Errorf("from %s: %w", from, err)}
	}
	return nil
}
