package overlay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// initPaths is where an init is looked for when none was asked for. The kernel's last resort, /bin/sh, is not among them: a
// machine without an init must not become one with an open shell.
var initPaths = []string{"/sbin/init", "/usr/lib/systemd/systemd", "/etc/init", "/bin/init"}

// CheckRoot finds the program in the tree at root that is to become PID 1 and reports whether this machine can run it: a
// regular file, executable, for this architecture, with the interpreter that it names. asked is the path from init=, or "" for
// the usual list. Links are followed as they will be after the switch, with root as their root (openat2(2),
// RESOLVE_IN_ROOT).
func CheckRoot(root, asked string) (string, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &fs.PathError{Op: "open root", Path: root, Err: err}
	}
	defer unix.Close(dir)
	if asked != "" {
		return asked, runnable(dir, asked, 0)
	}
	var errs []error
	for _, p := range initPaths {
		err := runnable(dir, p, 0)
		if err == nil {
			return p, nil
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("no init in the merged root: %w", errors.Join(errs...))
}

// runnable checks the program p and, one level deep, the interpreter that it asks for.
func runnable(root int, p string, depth int) error {
	fd, err := unix.Openat2(root, strings.TrimPrefix(p, "/"), &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return &fs.PathError{Op: "open", Path: p, Err: err}
	}
	f := os.NewFile(uintptr(fd), p)
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", p)
	case info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%s is not executable (mode %04o)", p, info.Mode().Perm())
	}
	head := make([]byte, 4096)
	n, err := f.ReadAt(head, 0)
	if n < 4 {
		return fmt.Errorf("%s cannot be run: %d bytes, %v", p, n, err)
	}
	interp, err := interpreter(head[:n])
	if err != nil {
		return fmt.Errorf("%s cannot be run: %w", p, err)
	}
	if interp != "" && depth < 2 {
		if err := runnable(root, interp, depth+1); err != nil {
			return fmt.Errorf("%s needs %s: %w", p, interp, err)
		}
	}
	return nil
}

// machines maps Go's architectures to ELF's e_machine, see elf(5).
var machines = map[string]uint16{"amd64": 62, "arm64": 183}

// interpreter returns the program that a script or a dynamically linked ELF file asks for, or "" for a static one. It
// refuses what this machine cannot run.
func interpreter(head []byte) (string, error) {
	if head[0] == '#' && head[1] == '!' {
		line, _, _ := strings.Cut(string(head[2:]), "\n")
		if fields := strings.Fields(line); len(fields) > 0 && strings.HasPrefix(fields[0], "/") {
			return fields[0], nil
		}
		return "", errors.New("script whose first line names no interpreter")
	}
	if string(head[:4]) != "\x7fELF" {
		return "", errors.New("neither an ELF program nor a script")
	}
	if len(head) < 64 || head[4] != 2 || head[5] != 1 {
		return "", errors.New("not a 64-bit little-endian ELF program")
	}
	le := binary.LittleEndian
	if m, want := le.Uint16(head[18:]), machines[runtime.GOARCH]; m != want {
		return "", fmt.Errorf("ELF program for machine %d, this is %s (%d)", m, runtime.GOARCH, want)
	}
	offset, size, count := le.Uint64(head[32:]), uint64(le.Uint16(head[54:])), uint64(le.Uint16(head[56:]))
	for i := range count {
		at := offset + i*size
		if size < 56 || at > uint64(len(head))-56 { // headers beyond the first page: leave the judgement to the kernel
			return "", nil
		}
		const ptInterp = 3
		if le.Uint32(head[at:]) != ptInterp {
			continue
		}
		from, length := le.Uint64(head[at+8:]), le.Uint64(head[at+32:])
		if from > uint64(len(head)) || length > uint64(len(head))-from {
			return "", nil
		}
		return strings.TrimRight(string(head[from:from+length]), "\x00"), nil
	}
	return "", nil
}
