//go:build !onboard

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRunTalksWithTheGuestInTheOrderOfTheFlags(t *testing.T) {
	fakeQEMU(t, `printf 'login: '; read -r -d $'\r' a; printf 'password: '; read -r -d $'\r' b; echo "you are $a, $b."; exec sleep 60`)
	cases := []struct {
		name  string
		flags []string
		want  int
		says  string
	}{
		{"all is seen", []string{"--expect", "login: $", "--send", "root", "--expect", "password:", "--send", "secret", "--expect", "root, secret"}, 0, "you are root"},
		{"something is not seen in time", []string{"--timeout", "300ms", "--expect", "login: $", "--expect", "never"}, exitFailed, `step 2 of 2: expect "never": not seen`},
		{"a pattern that is none", []string{"--expect", "("}, exitUsage, "missing closing"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			code, out := veneerRun(t, append([]string{makeOutput(t)}, c.flags...)...)
			if code != c.want || !strings.Contains(out, c.says) {
				t.Errorf("veneer run = %d, want %d and %q in:\n%s", code, c.want, c.says, out)
			}
		})
	}
}

func TestRunShowsTheTailWhenTheGuestEndsEarly(t *testing.T) {
	fakeQEMU(t, `echo "Kernel panic"; echo "qemu: bad weather" >&2; exit 1`)
	code, out := veneerRun(t, makeOutput(t), "--expect", "login:")
	for _, want := range []string{"the console ended", "| Kernel panic", "qemu: bad weather"} {
		if code != exitFailed || !strings.Contains(out, want) {
			t.Errorf("veneer run = %d, want %d and %q in:\n%s", code, exitFailed, want, out)
		}
	}
}

func TestDryRunPrintsTheCommandLineAndNothingElse(t *testing.T) {
	fakeQEMU(t, `touch "$0.ran"`)
	out := makeOutput(t)
	code, got := veneerRun(t, out, "--dry-run", "--memory", "512M", "--cpus", "2", "--append", "quiet veneer.debug",
		"--disk", filepath.Join(out, "store.img")+",bus=nvme,snapshot", "--log", "console log", "--expect", "x")
	want := "qemu-system-x86_64 -nodefaults -machine q35 -accel tcg -cpu max -smp 2 -m 512 -display none" +
		" -kernel OUT/vmlinuz -initrd OUT/initramfs.cpio.zst -append 'console=ttyS0 quiet veneer.debug'" +
		" -drive if=none,id=disk0,format=qcow2,file=OUT/.run/store.img-KEY.qcow2 -device virtio-blk-pci,drive=disk0" +
		" -drive if=none,id=disk1,format=raw,file=OUT/store.img,snapshot=on -device nvme,drive=disk1,serial=disk1" +
		" -chardev 'stdio,id=console,logfile=console log' -serial chardev:console -monitor none\n"
	got = strings.ReplaceAll(got, out, "OUT")
	if _, rest, ok := strings.Cut(got, "store.img-"); ok {
		key, _, _ := strings.Cut(rest, ".")
		got = strings.ReplaceAll(got, key, "KEY")
	}
	if code != 0 || got != want {
		t.Errorf("veneer run --dry-run = %d\n got %s\nwant %s", code, got, want)
	}
	if _, err := os.Stat(filepath.Join(out, ".run")); err == nil {
		t.Error("veneer run --dry-run made a state")
	}
}

func TestRunRefusesAllMistakesAtOnce(t *testing.T) {
	code, out := veneerRun(t, makeOutput(t), "--memory", "lots", "--disk", "/nonexistent,bus=floppy", "--cpus", "1")
	for _, want := range []string{`--memory: size "lots"`, `unknown bus "floppy"`} {
		if code != exitUsage || !strings.Contains(out, want) {
			t.Errorf("veneer run = %d, want %d and %q in:\n%s", code, exitUsage, want, out)
		}
	}
}

func TestRunKillsQEMUOnASignal(t *testing.T) {
	for _, flags := range [][]string{nil, {"--expect", "never"}} {
		for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGKILL} {
			t.Run(signal.String()+" "+strings.Join(flags, " "), func(t *testing.T) {
				pidFile := filepath.Join(t.TempDir(), "pid")
				fakeQEMU(t, `echo $$ > `+pidFile+`.part; mv `+pidFile+`.part `+pidFile+`; exec sleep 60`)
				cmd := exec.Command(os.Args[0], "-test.run=^TestBeVeneer$")
				cmd.Env = append(os.Environ(), "BE_VENEER="+strings.Join(append([]string{"run", makeOutput(t)}, flags...), "\n"))
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				pid := awaitPID(t, pidFile)
				if err := cmd.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
				if err := cmd.Wait(); err == nil {
					t.Error("veneer run ended without an error")
				}
				awaitEnd(t, pid)
			})
		}
	}
}

// TestBeVeneer is no test: in a child of the tests it is the command itself.
func TestBeVeneer(t *testing.T) {
	if line := os.Getenv("BE_VENEER"); line != "" {
		os.Args = append([]string{"veneer"}, strings.Split(line, "\n")...)
		main()
	}
}

func veneerRun(t *testing.T, words ...string) (code int, output string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	t.Setenv("VENEER_ACCEL", "tcg")
	var out bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(&out)
	code = run(ctx, root, append([]string{"run"}, words...))
	return code, out.String()
}

func makeOutput(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"vmlinuz": "", "initramfs.cpio.zst": "", "store.img": strings.Repeat("\x00", 1<<16),
		"manifest.json": `{"architecture":"amd64"}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// fakeQEMU puts a shell script in the place of QEMU.
func fakeQEMU(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "qemu-system-x86_64"), []byte("#!/bin/bash\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("VENEER_ACCEL", "tcg")
}

func awaitPID(t *testing.T, path string) int {
	t.Helper()
	var pid int
	poll(t, "the fake QEMU to start", func() bool {
		content, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(content)))
		return err == nil
	})
	return pid
}

func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	poll(t, "QEMU to end", func() bool {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		// An orphan that nobody reaps yet is dead all the same.
		return errors.Is(err, os.ErrNotExist) || strings.Contains(string(stat), ") Z ")
	})
}

// poll waits for what only another process can bring about.
func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited 10s for %s", what)
		}
	}
}
