// Package mounttest runs tests that mount, in a mount namespace of their own: as root, or else as root of a user namespace.
// Nothing that they mount can be seen outside, and all of it is gone when they end.
package mounttest

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

const marker = "VENEER_TEST_IN_NAMESPACE"

// InNamespace reports whether the test runs in a namespace of its own. If it does not, the test is run again in one, its
// result is taken over, and the caller returns:
//
//	if !mounttest.InNamespace(t) { return }
func InNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(marker) == t.Name() {
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatalf("make / private: %v", err)
		}
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v=true", "-test.count=1")
	cmd.Env = append(os.Environ(), marker+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("in a mount namespace: %v\n%s\nIf the kernel forbids user namespaces, run the tests as root.", err, out.String())
	}
	if !strings.Contains(out.String(), "--- PASS: "+t.Name()) {
		t.Fatalf("in a mount namespace nothing was tested:\n%s", out.String())
	}
	return false
}
