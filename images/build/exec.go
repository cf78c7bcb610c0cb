package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// packages are the Debian packages that hold the programs which a build may run.
var packages = map[string]string{
	"mksquashfs": "squashfs-tools",
	"mkfs.erofs": "erofs-utils",
	"mke2fs":     "e2fsprogs",
	"debugfs":    "e2fsprogs",
	"e2fsck":     "e2fsprogs",
	"zstd":       "zstd",
	"fakeroot":   "fakeroot",
	"setfattr":   "attr",
	"mkfs.fat":   "dosfstools",
	"mmd":        "mtools",
	"mcopy":      "mtools",
	"mdir":       "mtools",
	"syslinux":   "syslinux",
	"qemu-img":   "qemu-utils",
	"sbverify":   "sbsigntool",
	"xorriso":    "xorriso",
}

// findTool finds a program, also where a user's PATH does not lead.
func findTool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return filepath.Abs(path)
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if info, serr := os.Stat(filepath.Join(dir, name)); serr == nil && info.Mode()&0o111 != 0 && !info.IsDir() {
			return filepath.Join(dir, name), nil
		}
	}
	return "", fmt.Errorf("%s is missing: install the package %s (apt-get install %s): %w", name, packages[name], packages[name], errMissingTool)
}

// errMissingTool is in the error of what lacks a program.
var errMissingTool = errors.New("a program that this needs is not installed")

// command is a run of a program.
type command struct {
	argv   []string
	dir    string
	env    []string                               // in addition to what run sets
	feed   func(context.Context, io.Writer) error // writes its standard input; may be nil
	uid    uint32                                 // the owner that the program takes itself for
	gid    uint32
	as     bool // uid and gid count
	quiet  bool // it has nothing to say: any message is an error
	ignore func(line string) bool
	stop   syscall.Signal // what ends it; SIGKILL when 0
	sweep  func()         // called when the run failed; may be nil
}

// maxMessages bounds what is kept of a program's messages.
const maxMessages = 16 << 10

// run runs the program to its end. It gets an environment in which nothing depends on the user. When ctx is done, or when
// feeding it fails, the program and all its children are killed.
func (c command) run(ctx context.Context) (err error) {
	if c.sweep != nil {
		defer func() {
			if err != nil {
				c.sweep()
			}
		}()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	messages := &tail{limit: maxMessages}
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Dir = c.dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "LC_ALL=C", "TZ=UTC"}, c.env...)
	cmd.Stderr = messages
	// A group of its own: a ^C on the terminal is for us to handle.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.pretend(cmd.SysProcAttr)
	stop := c.stop
	if stop == 0 {
		stop = syscall.SIGKILL
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, stop) }
	cmd.WaitDelay = 10 * time.Second
	name := filepath.Base(c.argv[0])
	var in io.WriteCloser
	if c.feed != nil {
		var err error
		if in, err = cmd.StdinPipe(); err != nil {
			return fmt.Errorf("run %s: %w", name, err)
		}
	}
	if err := cmd.Start(); err != nil {
		if c.as && c.pretends() {
			err = fmt.Errorf("%w; it has to run in a user namespace, so that the root directory of the image belongs to %d:%d: run as that user, or let users make namespaces (sysctl user.max_user_namespaces)",
				err, c.uid, c.gid)
		}
		return fmt.Errorf("run %s: %w", name, err)
	}
	var ferr error
	if in != nil {
		ferr = c.feed(ctx, in)
		if ferr != nil && !errors.Is(ferr, syscall.EPIPE) {
			cancel(ferr)
		}
		ferr = errors.Join(ferr, in.Close())
	}
	werr := cmd.Wait()
	switch cause := context.Cause(ctx); {
	case cause != nil:
		return cause
	case werr != nil:
		return fmt.Errorf("%s: %w%s", name, werr, messages)
	case ferr != nil:
		return fmt.Errorf("%s ended before its input did: %w%s", name, ferr, messages)
	}
	return c.judge(name, messages)
}

// judge makes an error of messages that tell of something left out or bent.
func (c command) judge(name string, messages *tail) error {
	if !c.quiet {
		return nil
	}
	var lines []string
	for _, line := range strings.Split(messages.buf.String(), "\n") {
		if strings.TrimSpace(line) != "" && (c.ignore == nil || !c.ignore(line)) {
			lines = append(lines, line)
		}
	}
	if len(lines) > 0 {
		return fmt.Errorf("%s said:\n  %s", name, strings.Join(lines, "\n  "))
	}
	return nil
}

func (c command) pretends() bool {
	return c.as && (int(c.uid) != os.Getuid() || int(c.gid) != os.Getgid())
}

// pretend maps the user to the owner that the program is to take itself for.
func (c command) pretend(attr *syscall.SysProcAttr) {
	if !c.pretends() {
		return
	}
	attr.Cloneflags |= syscall.CLONE_NEWUSER
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: int(c.uid), HostID: os.Getuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: int(c.gid), HostID: os.Getgid(), Size: 1}}
}

// tail keeps the last of what is written to it.
type tail struct {
	buf   bytes.Buffer
	limit int
}

func (t *tail) Write(b []byte) (int, error) {
	t.buf.Write(b)
	if over := t.buf.Len() - t.limit; over > 0 {
		t.buf.Next(over)
	}
	return len(b), nil
}

// String returns the messages as the end of an error.
func (t *tail) String() string {
	text := strings.TrimSpace(t.buf.String())
	if text == "" {
		return ""
	}
	return ":\n  " + strings.ReplaceAll(text, "\n", "\n  ")
}

// full reports whether an error, of ours or in the words of a program, means that there is no more room.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		err != nil && (strings.Contains(err.Error(), "No space left on device") || strings.Contains(err.Error(), "Disk quota exceeded"))
}
