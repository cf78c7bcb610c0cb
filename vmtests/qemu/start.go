package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/anatol/vmtest"
)

const (
	// longestRun bounds a VM whose context has no deadline; vmtest wants a limit for every VM.
	longestRun = 24 * time.Hour
	// killGrace is how long QEMU may take to quit when asked, before it is killed.
	killGrace = 3 * time.Second
	// maxSocketPath is the size of sockaddr_un's path, less its final NUL: see unix(7).
	maxSocketPath = 107
)

// Start boots the VM under github.com/anatol/vmtest and returns at once. The guest is killed when ctx ends. A reset of the
// guest ends it, since vmtest passes -no-reboot. log, which may be nil, gets the console as it is printed; what vmtest
// knows as escape sequences is missing from it.
//
// vmtest gives QEMU no standard error. When QEMU fails, the same command line is run once more with the CPUs stopped, to
// learn what it complains about.
func Start(ctx context.Context, vm VM, log io.Writer) (*Guest, error) {
	program, err := findProgram(vm.Arch)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "vm")
	if err != nil {
		return nil, fmt.Errorf("start %s: directory for temporary files: %w; make it, or set TMPDIR to one that is there", program, err)
	}
	e, err := startVmtest(ctx, vm, program, dir, log)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", program, err), os.RemoveAll(dir))
	}
	return &Guest{Transcript: e.console, engine: e, qmp: e.qmp, plugs: newPlugs(vm)}, nil
}

// findProgram returns the name of the QEMU program for arch, once it is known to be installed.
func findProgram(arch string) (string, error) {
	p, err := platformOf(arch)
	if err != nil {
		return "", err
	}
	if _, err := exec.LookPath(p.system); err != nil {
		return "", fmt.Errorf("run %s: %w; apt-get install %s", p.system, err, p.pkg)
	}
	return p.system, nil
}

// vmtestEngine drives a VM of vmtest. One goroutine takes the console out of it, and outlives the guest just long enough
// to clean up.
type vmtestEngine struct {
	vm      *vmtest.Qemu
	console *Transcript
	qmp     *monitor
	pid     int
	args    []string
	program string
	done    chan struct{}
	killed  atomic.Bool
	how     End
	words   string
}

func startVmtest(ctx context.Context, vm VM, program, dir string, log io.Writer) (*vmtestEngine, error) {
	// vmtest makes its sockets in a directory vmtestNNNNNNNNNN beside ours.
	if n := len(filepath.Join(os.TempDir(), "vmtest4294967295", "console.socket")); n > maxSocketPath {
		return nil, fmt.Errorf("the path of a socket below %s would be %d bytes long and the kernel takes %d; set TMPDIR to a shorter directory",
			os.TempDir(), n, maxSocketPath)
	}
	plain, err := vm.Args()
	if err != nil {
		return nil, err
	}
	vm.QMP, vm.NoReboot = filepath.Join(dir, "qmp"), true
	args, err := vm.Args()
	if err != nil {
		return nil, err
	}
	pidFile := filepath.Join(dir, "pid")
	limit := longestRun
	if deadline, ok := ctx.Deadline(); ok {
		limit = max(time.Until(deadline), 0) + killGrace
	}
	q, err := vmtest.NewQemu(&vmtest.QemuOptions{
		Architecture: vmtest.QemuArchitecture(strings.TrimPrefix(program, "qemu-system-")),
		Params:       append(args, "-pidfile", pidFile),
		Timeout:      limit,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, complaint(ctx, program, plain))
	}
	e := &vmtestEngine{vm: q, console: NewTranscript(), args: plain, program: program, done: make(chan struct{})}
	// QEMU has written the file before it connected to the sockets that vmtest has just accepted.
	pid, pidErr := os.ReadFile(pidFile)
	if pidErr == nil {
		e.pid, pidErr = strconv.Atoi(strings.TrimSpace(string(pid)))
	}
	var qmpErr error
	e.qmp, qmpErr = dialMonitor(ctx, vm.QMP)
	if err := errors.Join(pidErr, qmpErr); err != nil {
		q.Kill()
		return nil, fmt.Errorf("%w: %s", err, complaint(ctx, program, plain))
	}
	stop := context.AfterFunc(ctx, e.kill)
	go func() {
		defer close(e.done)
		defer stop()
		e.pump(log)
		e.finish(ctx, dir)
	}()
	return e, nil
}

// pump moves the console from vmtest to the transcript until it ends. vmtest hands out a line, or what there is of one; a
// piece of a line stays with it and comes again, with more behind it. So each call asks for a text that begins with the
// piece already taken and goes on, and the group holds what is new.
func (e *vmtestEngine) pump(log io.Writer) {
	taken := ""
	for {
		groups, err := e.vm.ConsoleExpectRE(continuation(taken))
		if err != nil {
			return
		}
		for _, fresh := range groups {
			_, _ = io.WriteString(e.console, fresh)
			if log != nil {
				_, _ = io.WriteString(log, fresh)
			}
			taken += fresh
			if strings.HasSuffix(taken, "\n") {
				taken = ""
			}
		}
	}
}

// continuation matches a text that begins with taken; its group is the rest, which is not empty.
func continuation(taken string) *regexp.Regexp {
	var pattern strings.Builder
	for _, r := range taken {
		if r == '\uFFFD' {
			pattern.WriteByte('.') // a byte that is not UTF-8 cannot be written in a pattern
			continue
		}
		pattern.WriteString(regexp.QuoteMeta(string(r)))
	}
	return regexp.MustCompile(`(?s)^` + pattern.String() + `(.+)$`)
}

// finish reaps QEMU after its console has ended, finds out why, and removes all traces.
func (e *vmtestEngine) finish(ctx context.Context, dir string) {
	reason, err := e.qmp.reason(killGrace)
	e.vm.Kill()
	e.qmp.conn.Close()
	switch {
	case reason == "guest-shutdown":
		e.how = PoweredOff
	case reason == "guest-reset":
		e.how = Reset
	case reason == "guest-panic":
		e.how = Panicked
	case e.killed.Load() || strings.HasPrefix(reason, "host-"):
		e.how = Killed
	default:
		e.how, e.words = Crashed, complaint(context.WithoutCancel(ctx), e.program, e.args)
	}
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		e.words += err.Error()
	}
	e.console.Close()
}

func (e *vmtestEngine) send(text string) error { return e.vm.ConsoleWrite(text) }
func (e *vmtestEngine) gone() <-chan struct{}  { return e.done }
func (e *vmtestEngine) end() (End, string)     { return e.how, e.words }

func (e *vmtestEngine) kill() {
	select {
	case <-e.done: // ended by itself
		return
	default:
	}
	e.killed.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), killGrace)
	defer cancel()
	_, _ = e.qmp.execute(ctx, "quit", nil)
	select {
	case <-e.done:
		return
	case <-ctx.Done():
	}
	// A QEMU that hangs in its accelerator hears no monitor.
	_ = syscall.Kill(e.pid, syscall.SIGKILL)
	<-e.done
}

// complaint runs a failed command line again with the CPUs stopped and no console, and returns what QEMU prints: a missing
// file, an unknown device, a lock held by somebody else.
func complaint(ctx context.Context, program string, args []string) string {
	ctx, cancel := context.WithTimeout(ctx, killGrace)
	defer cancel()
	again := append(append([]string{}, args...), "-S", "-serial", "none", "-monitor", "none")
	out, _ := exec.CommandContext(ctx, program, again...).CombinedOutput()
	if text := strings.TrimSpace(string(out)); text != "" {
		return text
	}
	return "QEMU printed nothing that explains it"
}
