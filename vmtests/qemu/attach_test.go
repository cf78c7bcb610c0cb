package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// The scripts that stand for QEMU make the terminal raw, as QEMU does, and end in every way that it can.
func TestAttachRestoresTheTerminal(t *testing.T) {
	cases := []struct {
		name, script string
		cancel       bool
		fails        bool
	}{
		{name: "after a power off", script: `stty raw -echo; exit 0`},
		{name: "after an error", script: `stty raw -echo; exit 1`, fails: true},
		{name: "after a crash", script: `stty raw -echo; kill -ABRT $$`, fails: true},
		{name: "after QEMU was killed", script: `stty raw -echo; kill -KILL $$`, fails: true},
		{name: "after the context ended", script: `stty raw -echo; echo raw; exec sleep 60`, cancel: true, fails: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			fakeQEMU(t, c.script)
			outer, inner := pty(t)
			before := settings(t, inner)
			ctx, cancel := context.WithCancel(soon(t))
			if c.cancel {
				go func() {
					buf := make([]byte, 3)
					_, _ = outer.Read(buf) // the script is there now
					cancel()
				}()
			}
			err := Attach(ctx, VM{Arch: "amd64"}, Console{}, Terminal{inner, inner, inner})
			if (err != nil) != c.fails {
				t.Errorf("Attach() = %v, want an error: %v", err, c.fails)
			}
			if diff := cmp.Diff(before, settings(t, inner)); diff != "" {
				t.Errorf("settings of the terminal (-before +after):\n%s", diff)
			}
			cancel()
		})
	}
}

func TestConsoleArgs(t *testing.T) {
	var all strings.Builder
	for _, c := range []Console{{}, {Log: "a,b.log"}} {
		for _, terminal := range []bool{true, false} {
			fmt.Fprintf(&all, "log %q, terminal %v: %s\n", c.Log, terminal, strings.Join(c.Args(terminal), " "))
		}
	}
	golden(t, "console-args", all.String())
}

func TestSpawn(t *testing.T) {
	t.Run("talks with the guest and reports a power off", func(t *testing.T) {
		fakeQEMU(t, `printf 'login: '; read -r name; echo "hello $name"`)
		var echo bytes.Buffer
		g, err := Spawn(soon(t), VM{Arch: "amd64"}, Console{Echo: &echo})
		if err != nil {
			t.Fatal(err)
		}
		err = g.Play(soon(t), []Step{{Expect: regexp.MustCompile(`login: $`)}, {Send: "root\n"}, {Expect: regexp.MustCompile(`hello root`)}})
		if err != nil {
			t.Fatal(err)
		}
		wait(t, g, PoweredOff)
		if diff := cmp.Diff("login: hello root\n", echo.String()); diff != "" {
			t.Errorf("echo (-want +got):\n%s", diff)
		}
	})
	t.Run("shows what QEMU says when it fails", func(t *testing.T) {
		fakeQEMU(t, `echo "no such device" >&2; exit 1`)
		g, err := Spawn(soon(t), VM{Arch: "amd64"}, Console{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Wait(soon(t), time.Second*5); err == nil || !strings.Contains(err.Error(), "no such device") {
			t.Errorf("Wait() = %v, want QEMU's own words", err)
		}
		_, err = g.Expect(soon(t), time.Second, regexp.MustCompile(`login`))
		if !errors.Is(err, ErrEnded) || !strings.Contains(err.Error(), "no such device") {
			t.Errorf("Expect() = %v, want ErrEnded and QEMU's own words", err)
		}
	})
	t.Run("leaves no process behind when its context ends, even a deaf one", func(t *testing.T) {
		pidFile := filepath.Join(t.TempDir(), "pid")
		fakeQEMU(t, `trap '' TERM; echo $$ > `+pidFile+`; echo up; while :; do read -r line || exec tail -f /dev/null; done`)
		ctx, cancel := context.WithCancel(soon(t))
		g, err := Spawn(ctx, VM{Arch: "amd64"}, Console{})
		if err != nil {
			t.Fatal(err)
		}
		expect(t, g, `up`)
		cancel()
		wait(t, g, Killed)
		pid, err := strconv.Atoi(strings.TrimSpace(readFile(t, pidFile)))
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
			t.Errorf("process %d after the end of its context: %v, want none", pid, err)
		}
	})
}

// pty returns the two ends of a pseudo terminal.
func pty(t *testing.T) (outer, inner *os.File) {
	t.Helper()
	outer, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { outer.Close() })
	if err := unix.IoctlSetPointerInt(int(outer.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(outer.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	inner, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inner.Close() })
	return outer, inner
}

func settings(t *testing.T, tty *os.File) unix.Termios {
	t.Helper()
	termios, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *termios
}
