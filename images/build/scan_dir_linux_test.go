package build

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestADirectoryIsScannedForWhatCannotBeKept(t *testing.T) {
	dir := t.TempDir()
	l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l)
	if err := unix.Bind(l, &unix.SockaddrUnix{Name: filepath.Join(dir, "socket")}); err != nil {
		t.Fatal(err)
	}
	tree, err := scanDir(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	tree.examine(squashfsLimits)
	if _, err := tree.found.judge(dir, usualLosses()); err == nil || !strings.Contains(err.Error(), "socket\n") {
		t.Errorf("judge() = %v", err)
	}
	allowed, err := tree.found.judge(dir, append(usualLosses(), LossSockets))
	if err != nil || len(allowed) == 0 {
		t.Errorf("judge() = %v, %v", allowed, err)
	}
}

func TestFilesThatNobodyMayChangeAreReported(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	for name, flag := range map[string]string{"immutable": "+i", "append": "+a", "nodump": "+d", "dir/": "+a"} {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
		} else {
			write(t, path, "x")
		}
		if out, err := exec.Command("chattr", flag, path).CombinedOutput(); err != nil {
			t.Skipf("the file system of %s knows no flags: chattr: %v: %s", dir, err, out)
		}
		t.Cleanup(func() { run(t, "e2fsprogs", "chattr", "-iad", path) })
	}
	tree, err := scanDir(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tree.found.judge("tree", usualLosses())
	want := "tree cannot be kept as it is:\n  append: append-only\n  dir: append-only\n  immutable: immutable\n    -> take them off with chattr -ia; or accept that"
	if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.HasSuffix(err.Error(), `add "flags" to allow.losses`) {
		t.Errorf("judge() = %v, want %s…", err, want)
	}
	if allowed, err := tree.found.judge("tree", []Loss{LossFlags}); err != nil || len(allowed) != 1 || allowed[0].Count != 3 {
		t.Errorf("where it is allowed judge() = %v, %v", allowed, err)
	}
}

// The command runs as another user here, for nothing is unreadable to root.
func TestAnUnreadableFileIsAnErrorWithItsPath(t *testing.T) {
	const helper = "VENEER_TEST_SCAN"
	if dir := os.Getenv(helper); dir != "" {
		tree, err := scanDir(context.Background(), dir)
		if err == nil {
			_, err = tree.found.judge("tree", usualLosses())
		}
		if err == nil {
			t.Fatal("judge() = nil")
		}
		os.Stdout.WriteString(err.Error())
		return
	}
	needRoot(t)
	dir, err := os.MkdirTemp("", "veneer-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	write(t, filepath.Join(dir, "secret"), "x")
	write(t, filepath.Join(dir, "open"), "x")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Join(dir, "secret"), 0o600), os.Mkdir(filepath.Join(dir, "closed"), 0o700)); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "test-program")
	if err := errors.Join(os.WriteFile(program, self, 0o755), os.Chmod(program, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run", "^"+t.Name()+"$")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), helper+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"closed: open ", "secret: permission denied", "make it readable, or build as root, or from a tar archive"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
}
