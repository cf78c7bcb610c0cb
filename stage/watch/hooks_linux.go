package watch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// hookTime is how long one hook may take.
const hookTime = 30 * time.Second

// runHooks calls each program of HooksDir, in the order of their names, with what, level, percent and mount. One that fails is
// told, and the others still run.
func (w *Watch) runHooks(ctx context.Context, s Seen) error {
	dir := filepath.Join(w.Root, HooksDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	run := w.Hook
	if run == nil {
		run = runHook
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || strings.HasSuffix(e.Name(), "~") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		runs, err := mayRun(path)
		if err == nil && runs {
			err = run(ctx, path, s.What, string(s.Level), strconv.Itoa(s.Percent), s.Mount)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("hook %s: %w", e.Name(), err))
		}
	}
	return errors.Join(errs...)
}

// mayRun reports whether a file is a program. One that others than root can write is an error: it would run as root.
func mayRun(path string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return false, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0 {
		return false, nil
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return false, errors.New("not run, because others than root can write it: chown root, chmod go-w")
	}
	return true, nil
}

// runHook runs a program with an environment of its own, and ends it with all that it started when its time is over.
func runHook(ctx context.Context, argv ...string) error {
	ctx, cancel := context.WithTimeout(ctx, hookTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil && err != nil {
		return fmt.Errorf("ended after %s: %w", hookTime, ctx.Err())
	}
	return err
}
