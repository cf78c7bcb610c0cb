package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"veneer/overlay/mount"
	"veneer/stage"
)

const (
	// toolsRoot is what programs of the base see as /: the base, and the machine's /dev, /proc, /sys and /run in it.
	toolsRoot = stage.ProgramsDir
	// maxSaid bounds what is kept of the output of a program: the end of it.
	maxSaid = 4 << 10
)

// tool is a call of a program of the base.
type tool struct {
	program string
	pkg     string // that brings it on Debian
	args    []string
	limit   time.Duration
	secret  []byte // it reads this from secretFile; it stands nowhere else
	good    []int  // exit codes beside 0 that are no error
}

// secretFile is what a program calls the memory that holds its secret.
const secretFile = "/proc/self/fd/3"

// toolEnv is the whole environment of a program. Without udev, libdevmapper makes the nodes of devices itself.
var toolEnv = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/", "TMPDIR=/run", "DM_DISABLE_UDEV=1"}

// run runs a program of the base that is mounted at root, and returns its exit code and the end of what it said. Any code that
// is not good is an error. At the deadline its whole process group is killed.
func (m *Disk) run(ctx context.Context, root string, t tool) (code int, said string, err error) {
	leave, err := m.enter(root)
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, leave()) }()
	path, err := findProgram(t.program)
	if err != nil {
		return 0, "", fmt.Errorf("%w: %s: put the Debian package %s into it", stage.ErrNoTool, t.program, t.pkg)
	}
	line := strings.Join(append([]string{t.program}, t.args...), " ")
	m.Detail("%s", line)
	ctx, cancel := context.WithTimeout(ctx, t.limit)
	defer cancel()
	code, said, err = start(ctx, path, t)
	for text := range strings.Lines(said) {
		m.Detail("%s: %s", t.program, strings.TrimRight(text, "\r\n"))
	}
	if err == nil && code != 0 && !slices.Contains(t.good, code) {
		err = fmt.Errorf("exit code %d", code)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w%s", line, err, quoted(said))
	}
	return code, said, err
}

func quoted(said string) string {
	if said = strings.TrimSpace(said); said == "" {
		return ""
	}
	return "; it said: " + said
}

// Module has the base load a kernel module: what few machines need, and none before its base is there, is not in the initramfs.
func (m *Disk) Module(ctx context.Context, root, name string) error {
	_, _, err := m.run(ctx, root, tool{program: "modprobe", pkg: "kmod", args: []string{"-q", name}, limit: unlockLimit})
	return err
}

// enter makes toolsRoot, and returns what takes it away.
func (m *Disk) enter(root string) (leave func() error, err error) {
	ops := []mount.Op{mount.Mkdir{Path: toolsRoot, Mode: 0o700}, mount.Bind{Source: root, Target: toolsRoot}}
	for _, dir := range []string{"/dev", "/proc", "/sys", "/run"} {
		ops = append(ops, mount.Bind{Source: dir, Target: toolsRoot + dir})
	}
	done := 0
	leave = func() error {
		var errs []error
		for _, op := range slices.Backward(ops[1:max(done, 1)]) {
			// A program that was killed may still be dying.
			errs = append(errs, unix.Unmount(op.(mount.Bind).Target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW))
		}
		return errors.Join(errs...)
	}
	for _, op := range ops {
		if err := m.Apply(op); err != nil {
			return nil, errors.Join(fmt.Errorf("make room for the programs of the base: %w", err), leave())
		}
		done++
	}
	return leave, nil
}

// findProgram looks for a program in toolsRoot, and returns its path in there.
func findProgram(name string) (string, error) {
	dir, err := unix.Open(toolsRoot, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(dir)
	for _, in := range []string{"usr/sbin/", "usr/bin/", "sbin/", "bin/"} {
		fd, err := unix.Openat2(dir, in+name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
		if err == nil {
			unix.Close(fd)
			return "/" + in + name, nil
		}
	}
	return "", fs.ErrNotExist
}

func start(ctx context.Context, path string, t tool) (code int, said string, err error) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return 0, "", err
	}
	defer null.Close()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return 0, "", err
	}
	defer unix.Close(pipe[0])
	w := os.NewFile(uintptr(pipe[1]), "pipe")
	defer w.Close()
	files := []*os.File{null, w, w}
	if t.secret != nil {
		memory, wipe, err := secret(t.secret)
		if err != nil {
			return 0, "", err
		}
		defer wipe()
		files = append(files, memory)
	}
	// The program ends with us, whatever ends us. The kernel takes the thread that starts it for us.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := os.StartProcess(path, append([]string{path}, t.args...), &os.ProcAttr{Dir: "/", Env: toolEnv, Files: files,
		Sys: &syscall.SysProcAttr{Chroot: toolsRoot, Setsid: true, Pdeathsig: syscall.SIGKILL}})
	if err != nil {
		return 0, "", err
	}
	w.Close()
	said, rerr := tail(ctx, pipe[0])
	if rerr != nil {
		_ = unix.Kill(-p.Pid, unix.SIGKILL)
	}
	state, err := p.Wait()
	if rerr != nil {
		if errors.Is(rerr, context.Canceled) {
			return 0, said, fmt.Errorf("killed: %w", rerr)
		}
		return 0, said, fmt.Errorf("killed: it took longer than %s", t.limit)
	}
	if err != nil {
		return 0, said, err
	}
	if status := state.Sys().(syscall.WaitStatus); status.Signaled() {
		return 0, said, fmt.Errorf("killed by signal %d", status.Signal())
	}
	return state.ExitCode(), said, nil
}

// tail reads to the end, or until ctx ends, and keeps the last maxSaid bytes.
func tail(ctx context.Context, fd int) (string, error) {
	var kept []byte
	buf := make([]byte, maxSaid)
	for {
		wait, err := stage.Remaining(ctx)
		if err != nil {
			return string(kept), err
		}
		// Whoever ends ctx wakes no poll.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(min(wait, 200*time.Millisecond).Milliseconds())+1)
		if n > 0 {
			n, err = unix.Read(fd, buf)
			if n == 0 && err == nil {
				return string(kept), nil
			}
			kept = append(kept, buf[:max(n, 0)]...)
			kept = kept[max(0, len(kept)-maxSaid):]
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return string(kept), err
		}
	}
}

// secret returns a file in memory that has no name, with the secret in it, and what overwrites and closes it.
func secret(b []byte) (*os.File, func(), error) {
	fd, err := unix.MemfdCreate("", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("memory for a secret: %w", err)
	}
	f := os.NewFile(uintptr(fd), secretFile)
	wipe := func() {
		_, _ = f.WriteAt(make([]byte, len(b)), 0)
		f.Close()
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		wipe()
		return nil, nil, fmt.Errorf("memory for a secret: %w", err)
	}
	return f, wipe, nil
}
