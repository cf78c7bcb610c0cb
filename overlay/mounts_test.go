package overlay

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/overlay/mount"
	"veneer/overlay/mount/mounttest"
)

// scratch is a tmpfs, because the directory of the tests may itself lie on an overlay, which can hold no upper.
func scratch(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := (mount.Kernel{}).Apply(mount.Mount{Type: "tmpfs", Source: "t", Target: dir}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func write(t *testing.T, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func stackAt(t *testing.T, dir string, lowers ...string) string {
	t.Helper()
	s := Stack{Lowers: lowers, Upper: boot.Upper{Kind: boot.UpperTmpfs}, UpperDir: filepath.Join(dir, "up:p,e\\r"),
		LinkDir: filepath.Join(dir, "links"), Target: filepath.Join(dir, "root")}
	volatile, err := Volatile(s.UpperDir, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	ops, err := Plan(s)
	if err != nil {
		t.Fatal(err)
	}
	ops = append(volatile, ops...)
	for _, op := range ops {
		if err := (mount.Kernel{}).Apply(op); err != nil {
			t.Fatalf("%s: %v", op, err)
		}
	}
	t.Cleanup(func() {
		_ = unix.Unmount(s.Target, unix.MNT_DETACH)
		_ = unix.Unmount(s.UpperDir, unix.MNT_DETACH)
	})
	return s.Target
}

func TestLayersWithOddNamesAreStackedInOrder(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	dir := scratch(t)
	var lowers []string
	for _, name := range []string{"base", "a:b", "c,d", `e\f`, "g h", `x\:y\,z`, "ü"} {
		lower := filepath.Join(dir, name)
		write(t, filepath.Join(lower, "top"), name, 0o644)
		write(t, filepath.Join(lower, "own", name), name, 0o644)
		lowers = append(lowers, lower)
	}
	root := stackAt(t, dir, lowers...)
	if got, err := os.ReadFile(filepath.Join(root, "top")); err != nil || string(got) != "ü" {
		t.Errorf("top = %q, %v, want that of the last layer", got, err)
	}
	if own, err := os.ReadDir(filepath.Join(root, "own")); err != nil || len(own) != len(lowers) {
		t.Errorf("own/ holds %v, %v, want one file of each of the %d layers", own, err, len(lowers))
	}
	write(t, filepath.Join(root, "top"), "written", 0o644)
	if got, _ := os.ReadFile(filepath.Join(lowers[len(lowers)-1], "top")); string(got) != "ü" {
		t.Errorf("writing to the root changed a lower to %q", got)
	}
}

func TestTwoHundredLayersAreStacked(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	dir := scratch(t)
	var lowers []string
	for i := range 200 {
		lower := filepath.Join(dir, strings.Repeat("n", 60)+string(rune('0'+i/100))+string(rune('0'+i/10%10))+string(rune('0'+i%10)))
		write(t, filepath.Join(lower, "own", filepath.Base(lower)), "", 0o644)
		lowers = append(lowers, lower)
	}
	root := stackAt(t, dir, lowers...)
	if own, err := os.ReadDir(filepath.Join(root, "own")); err != nil || len(own) != len(lowers) {
		t.Errorf("own/ holds %d entries, %v, want %d", len(own), err, len(lowers))
	}
}

func TestAFullUpperIsENOSPC(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	dir := scratch(t)
	write(t, filepath.Join(dir, "base", "file"), "", 0o644)
	root := stackAt(t, dir, filepath.Join(dir, "base"))
	err := os.WriteFile(filepath.Join(root, "big"), make([]byte, 2<<20), 0o644)
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("2 MiB into an upper of 1 MiB: %v, want ENOSPC", err)
	}
}

func TestTheRootIsCheckedForAnInitThatCanRun(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	foreign := append([]byte(nil), self[:4096]...)
	foreign[18], foreign[19] = 243, 0 // RISC-V
	cases := []struct {
		name, asked string
		make        func(t *testing.T, root string)
		want        string // the init, or
		refused     string
	}{
		{"an ELF program is taken", "", func(t *testing.T, root string) { write(t, root+"/sbin/init", string(self), 0o755) }, "/sbin/init", ""},
		{"a script with its interpreter is taken", "/x", func(t *testing.T, root string) {
			write(t, root+"/x", "#!/bin/sh -e\n", 0o755)
			write(t, root+"/bin/sh", string(self), 0o755)
		}, "/x", ""},
		{"an absolute link is followed inside the root", "", func(t *testing.T, root string) {
			write(t, root+"/lib/systemd/systemd", string(self), 0o755)
			mustLink(t, "/lib/systemd/systemd", root+"/sbin/init")
		}, "/sbin/init", ""},
		{"a link that climbs stays inside the root", "/x", func(t *testing.T, root string) { mustLink(t, "../../../../../../proc/self/exe", root+"/x") }, "", "no such file"},
		{"a script without its interpreter is refused", "/x", func(t *testing.T, root string) { write(t, root+"/x", "#!/bin/zsh\n", 0o755) }, "", "needs /bin/zsh"},
		{"an empty file is refused", "/x", func(t *testing.T, root string) { write(t, root+"/x", "", 0o755) }, "", "cannot be run"},
		{"text is refused", "/x", func(t *testing.T, root string) { write(t, root+"/x", "hello, world", 0o755) }, "", "neither an ELF program nor a script"},
		{"a file without its executable bit is refused", "/x", func(t *testing.T, root string) { write(t, root+"/x", string(self), 0o644) }, "", "not executable"},
		{"a program for another machine is refused", "/x", func(t *testing.T, root string) { write(t, root+"/x", string(foreign), 0o755) }, "", "machine 243"},
		{"a directory is refused", "/x", func(t *testing.T, root string) { write(t, root+"/x/y", "", 0o644) }, "", "not a regular file"},
		{"a shell is no init", "", func(t *testing.T, root string) { write(t, root+"/bin/sh", string(self), 0o755) }, "", "no init in the merged root"},
		{"a missing init= is refused even where another is there", "/x", func(t *testing.T, root string) { write(t, root+"/sbin/init", string(self), 0o755) }, "", "/x"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			c.make(t, root)
			got, err := CheckRoot(root, c.asked)
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("CheckRoot() = %q, %v, want a refusal with %q", got, err, c.refused)
				}
				return
			}
			if err != nil || got != c.want {
				t.Errorf("CheckRoot() = %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func mustLink(t *testing.T, content, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(content, name); err != nil {
		t.Fatal(err)
	}
}

func FuzzInterpreter(f *testing.F) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(self[:4096])
	f.Add([]byte("#!/bin/sh\n"))
	f.Fuzz(func(t *testing.T, head []byte) {
		if len(head) < 4 || len(head) > 4096 {
			return
		}
		if p, err := interpreter(head); err == nil && len(p) > len(head) {
			t.Errorf("interpreter of %d bytes from a head of %d", len(p), len(head))
		}
	})
}
