// Package vmtests boots real images in QEMU; see README.md.
package vmtests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// lab is what all cases share: the command under test, the cache of what it built, and the places for machines.
type lab struct {
	root    string        // of the module
	cache   string        // kept from run to run
	scratch string        // gone at the end of this run
	places  chan struct{} // one for each VM that may run at a time
	once    sync.Mutex
	made    map[string]*making
}

// making is an asset that is made once, whoever asks first.
type making struct {
	sync.Once
	path string
	err  error
}

// shared is set by TestMain and only read after it.
var shared lab

// needed are the programs that the cases call, and the Debian package of each.
var needed = []struct{ program, pkg string }{
	{"qemu-system-x86_64", "qemu-system-x86"}, {"qemu-system-aarch64", "qemu-system-arm"},
	{"mksquashfs", "squashfs-tools"}, {"mkfs.erofs", "erofs-utils"}, {"mke2fs", "e2fsprogs"}, {"mkfs.btrfs", "btrfs-progs"},
	{"mkfs.xfs", "xfsprogs"}, {"mkfs.vfat", "dosfstools"}, {"mcopy", "mtools"}, {"xorriso", "xorriso"}, {"zstd", "zstd"},
	{"mmdebstrap", "mmdebstrap"}, {"swtpm", "swtpm"}, {"mkfs.exfat", "exfatprogs"},
}

func TestMain(m *testing.M) {
	code, err := runLab(m)
	if err != nil {
		fmt.Fprintf(os.Stderr, "vmtests: %v\n", err)
		code = 1
	}
	os.Exit(code)
}

func runLab(m *testing.M) (code int, err error) {
	path := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin:/usr/local/go/bin")
	if err := errors.Join(path, checkTools()); err != nil {
		return 1, err
	}
	if shared.root, err = filepath.Abs(".."); err != nil {
		return 1, err
	}
	if shared.cache, err = cacheDir(); err != nil {
		return 1, err
	}
	if shared.scratch, err = os.MkdirTemp("", "vmtests"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(shared.scratch)) }()
	vms := 2
	if text := os.Getenv("VENEER_TEST_VMS"); text != "" {
		if vms, err = strconv.Atoi(text); err != nil || vms < 1 {
			return 1, fmt.Errorf("VENEER_TEST_VMS=%q: want a number from 1 on", text)
		}
	}
	shared.places = make(chan struct{}, vms)
	shared.made = map[string]*making{}
	return m.Run(), nil
}

// checkTools names everything that is missing at once: a case that cannot run has failed.
func checkTools() error {
	var errs []error
	for _, tool := range needed {
		if _, err := exec.LookPath(tool.program); err != nil {
			errs = append(errs, fmt.Errorf("%w; apt-get install %s", err, tool.pkg))
		}
	}
	return errors.Join(errs...)
}

// cacheDir is VENEER_CACHE or the place where .ci/fetch-kernel keeps its downloads.
func cacheDir() (string, error) {
	dir := os.Getenv("VENEER_CACHE")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("%w; set VENEER_CACHE to a directory for what the tests build", err)
		}
		dir = filepath.Join(home, ".cache", "veneer")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return dir, os.MkdirAll(filepath.Join(dir, "vmtests"), 0o755)
}

// make returns the path of an asset. The first who asks makes it, under a lock that other processes with the same cache
// respect; the others wait.
func (l *lab) make(t *testing.T, name string, fn func() (string, error)) string {
	t.Helper()
	l.once.Lock()
	m := l.made[name]
	if m == nil {
		m = &making{}
		l.made[name] = m
	}
	l.once.Unlock()
	m.Do(func() {
		m.err = fmt.Errorf("make %s: a case that made it gave up", name) // for the case that fn ends its goroutine
		start := time.Now()
		unlock, err := l.lock()
		if err != nil {
			m.err = err
			return
		}
		defer unlock()
		m.path, m.err = fn()
		if took := time.Since(start); m.err == nil && took > time.Second {
			t.Logf("%s is ready after %v", name, took.Round(100*time.Millisecond))
		}
	})
	if m.err != nil {
		t.Fatalf("make %s: %v", name, m.err)
	}
	return m.path
}

func (l *lab) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(l.cache, "vmtests", "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(&os.PathError{Op: "lock", Path: f.Name(), Err: err}, f.Close())
	}
	return func() { _ = f.Close() }, nil // closing unlocks, see flock(2)
}

// tool runs a program in dir and returns what it prints on its standard output.
func tool(ctx context.Context, dir, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	var complaints strings.Builder
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stderr = dir, &complaints
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", strings.Join(cmd.Args, " "), err, out, complaints.String())
	}
	return string(out), nil
}

// must runs a program and ends the test when it fails.
func must(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	out, err := tool(t.Context(), dir, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
