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

	"veneer/vmtests/qemu"
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
	code, out := veneerRun(t, makeOutput(t), "--memory", "lots", "--disk", "/nonexistent,bus=floppy", "--cpus", "0", "--display", "foo")
	for _, want := range []string{"--memory lots: want an amount", `unknown bus "floppy"`, "--cpus 0", `--display: display "foo"`} {
		if code != exitUsage || !strings.Contains(out, want) {
			t.Errorf("veneer run = %d, want %d and %q in:\n%s", code, exitUsage, want, out)
		}
	}
}

func TestRunRefusesNonsenseBeforeAnythingStarts(t *testing.T) {
	fakeQEMU(t, `touch "$0.ran"`)
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	deb := file("x.deb", "!<arch>\ndebian-binary   ")
	blank := file("blank.img", strings.Repeat("\x00", 4096))
	for _, c := range []struct {
		name  string
		flags []string
		says  string
	}{
		{"no CPUs", []string{"--cpus", "0"}, "--cpus 0: want 1 to 255"},
		{"CPUs below none", []string{"--cpus", "-1"}, "--cpus -1: want 1 to 255"},
		{"more CPUs than any machine has", []string{"--cpus", "9999"}, "--cpus 9999: want 1 to 255"},
		{"a time that has passed", []string{"--timeout", "-5s"}, "--timeout -5s: want a time such as 90s"},
		{"an architecture without a machine", []string{"--arch", "mips"}, "--arch mips: want amd64 or arm64"},
		{"an architecture that is not the output's", []string{"--arch", "arm64"}, "--arch arm64: the build output is for amd64"},
		{"a window that no QEMU has", []string{"--display", "foo"}, `--display: display "foo": want one of none, gtk`},
		{"a log in no directory", []string{"--log", dir + "/none/console"}, "--log " + dir + "/none/console: directory " + dir + "/none: no such file"},
		{"a log below a file", []string{"--log", deb + "/console"}, "is not a directory"},
		{"a directory for a log", []string{"--log", dir}, "this is a directory"},
		{"a log where nobody can write", []string{"--log", "/proc/self/console"}, "--log /proc/self/console: "},
		{"memory without a unit", []string{"--memory", "5"}, "--memory 5: want an amount with its unit, such as 512M or 2G, and 64M at least"},
		{"too little memory", []string{"--memory", "63M"}, "64M at least"},
		{"a share of the memory", []string{"--memory", "50%"}, "want an amount with its unit"},
		{"a package for a disk", []string{"--disk", deb}, deb + " is not a disk but a package"},
		{"a disk that is not there", []string{"--disk", dir + "/none,format=raw"}, "no such file"},
		{"a format that is none", []string{"--disk", blank + ",format=vmdk"}, `format "vmdk": want raw or qcow2`},
		{"a package to boot", []string{deb}, deb + " is not a disk but a package"},
		{"a disk without a boot sector", []string{blank}, "no boot sector"},
		{"a command line for a disk", []string{file("boot.img", strings.Repeat("\x00", 510)+"\x55\xaa"), "--append", "quiet"}, "--append needs a build output"},
	} {
		for _, dry := range []string{"--dry-run=true", "--dry-run=false"} {
			t.Run(c.name+" "+dry, func(t *testing.T) {
				words := c.flags
				if strings.HasPrefix(words[0], "--") {
					words = append([]string{makeOutput(t)}, words...)
				}
				code, out := veneerRun(t, append(words, dry)...)
				if code != exitUsage || !strings.Contains(out, c.says) || !strings.Contains(out, "See 'veneer help run'") {
					t.Errorf("veneer run %v = %d, want %d and %q in:\n%s", c.flags, code, exitUsage, c.says, out)
				}
			})
		}
	}
	for _, where := range append(strings.Split(os.Getenv("PATH"), ":")[:1], dir) {
		ran, err := filepath.Glob(filepath.Join(where, "*.ran"))
		states, serr := filepath.Glob(filepath.Join(where, ".run"))
		if err != nil || serr != nil || len(ran)+len(states) > 0 {
			t.Errorf("something was started or made: %v, %v; %v, %v", ran, states, err, serr)
		}
	}
	for _, good := range [][]string{{"--arch", "amd64"}, {"--cpus", "255"}, {"--memory", "64M"}, {"--display", "vnc=:1"}, {"--display", "gtk,gl=on"}, {"--log", dir + "/new"}} {
		if code, out := veneerRun(t, append([]string{makeOutput(t), "--dry-run"}, good...)...); code != 0 {
			t.Errorf("veneer run --dry-run %v = %d:\n%s", good, code, out)
		}
	}
}

func TestTwoRunsOfOneOutputBothRun(t *testing.T) {
	fakeQEMU(t, `echo "drives: $*;"; exec sleep 60`)
	out := makeOutput(t)
	medium, err := qemu.OpenMedium(out, "")
	if err != nil {
		t.Fatal(err)
	}
	release, err := medium.Claim(t.Context(), false) // the first run
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	code, said := veneerRun(t, out, "--expect", "drives: .*;")
	for _, want := range []string{medium.State + ": in use by another virtual machine, such as another 'veneer run'", "--fresh", "thrown away",
		"file=" + filepath.Join(out, "store.img") + ",snapshot=on"} {
		if code != 0 || !strings.Contains(said, want) {
			t.Errorf("a second veneer run = %d, want 0 and %q in:\n%s", code, want, said)
		}
	}
	if code, said := veneerRun(t, out, "--fresh", "--expect", "drives: .*;"); code != 0 || !strings.Contains(said, "file="+medium.State) || strings.Contains(said, "thrown away") {
		t.Errorf("a second veneer run --fresh = %d, want a state of its own in:\n%s", code, said)
	}
	code, said = veneerRun(t, out, "--fresh", "--expect", "drives: .*;", "--disk", filepath.Join(out, "store.img"))
	if want := filepath.Join(out, "store.img") + " is attached twice"; code != exitFailed || !strings.Contains(said, want) {
		t.Errorf("veneer run with its own store to write to = %d, want %q in:\n%s", code, want, said)
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
