package state

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTheTrashIsEmptiedWhateverIsInIt(t *testing.T) {
	needsRoot(t)
	root := t.TempDir()
	d := populate(t, root)
	put(t, root, "trash/a/.hidden/x +i", "trash/a/dir +i", "trash/b -> /etc", "trash/c fifo", "trash/d whiteout", "trash/odd\n\xff/x y", "trash/e/log +a")
	must(t, os.Chmod(filepath.Join(root, "trash/a/.hidden"), 0))
	setFlags(t, filepath.Join(root, "trash/a/.hidden"), 0x10)
	dir := filepath.Join(root, "trash")
	deep, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	for range 3000 {
		must(t, unix.Mkdirat(deep, "deep", 0o700))
		next, err := unix.Openat(deep, "deep", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		unix.Close(deep)
		deep = next
	}
	unix.Close(deep)
	left, _, err := d.EmptyTrash(context.Background(), 3, nil)
	if err != nil || !left {
		t.Errorf("EmptyTrash with a limit = %v, %v", left, err)
	}
	left, _, err = d.EmptyTrash(context.Background(), 0, func(int) {})
	if err != nil || left {
		t.Errorf("EmptyTrash = %v, %v", left, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left in the trash: %v, %v", entries, err)
	}
	if _, err := os.Stat("/etc/passwd"); errors.Is(err, fs.ErrNotExist) {
		t.Fatal("a link was followed")
	}
}

func TestTheTrashStopsAtAMount(t *testing.T) {
	needsRoot(t)
	root := t.TempDir()
	d := populate(t, root)
	put(t, root, "trash/a/mnt/", "trash/a/x y", "trash/z y")
	mnt := filepath.Join(root, "trash/a/mnt")
	if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, ""); err != nil {
		t.Skipf("mount a tmpfs: %v", err)
	}
	defer unix.Unmount(mnt, unix.MNT_DETACH)
	put(t, mnt, "precious x")
	left, _, err := d.EmptyTrash(context.Background(), 0, nil)
	_ = left
	if err == nil || !strings.Contains(err.Error(), "mounted") {
		t.Errorf("EmptyTrash = %v, want it to name the mount", err)
	}
	if _, err := os.Stat(filepath.Join(mnt, "precious")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(root, "trash/z")); err == nil {
		t.Error("what lies beside the mount is still there")
	}
}

func TestAMountInThePlaceOfDataIsNotMoved(t *testing.T) {
	needsRoot(t)
	root := t.TempDir()
	d := populate(t, root)
	mnt := filepath.Join(root, "data/var/log")
	if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, ""); err != nil {
		t.Skipf("mount a tmpfs: %v", err)
	}
	defer unix.Unmount(mnt, unix.MNT_DETACH)
	file(Request{Kind: Reset, Scope: "/var/log"})(t, d)
	out, err := d.CarryOut(context.Background(), orders())
	must(t, err)
	if len(out) != 1 || out[0].Outcome != Failed || !strings.Contains(out[0].Err.Error(), "mounted") {
		t.Errorf("CarryOut = %+v, want a failure that names the mount", out)
	}
}
