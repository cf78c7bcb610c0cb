package state

// Tests on real file systems, each in a loop image: full to the last byte and inode, with shared blocks and without.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// image mounts a new file system of some MiB.
func image(t testing.TB, kind string, mib int64, options ...string) string {
	t.Helper()
	needsRoot(t)
	mkfs, err := exec.LookPath("mkfs." + kind)
	if err != nil {
		t.Skipf("mkfs.%s is not here: install it", kind)
	}
	file := filepath.Join(t.TempDir(), kind+".img")
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, os.Truncate(file, mib<<20))
	if out, err := exec.Command(mkfs, append(options, file)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", mkfs, err, out)
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-o", "loop", file, dir).CombinedOutput(); err != nil {
		t.Skipf("mount a loop image of %s: %v: %s", kind, err, out)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

var sizes = map[string]int64{"ext4": 32, "btrfs": 128, "xfs": 320}

// fill takes every byte there is, and then every byte of the tail that a block leaves.
func fill(t *testing.T, dir string) {
	t.Helper()
	for size := 1 << 20; size > 0; size /= 4 {
		for n := 0; ; n++ {
			name := filepath.Join(dir, fmt.Sprintf("fill-%d-%d", size, n))
			err := os.WriteFile(name, make([]byte, size), 0o600)
			if err == nil {
				if f, ferr := os.Open(name); ferr == nil {
					err = f.Sync()
					f.Close()
				}
			}
			if errors.Is(err, unix.ENOSPC) {
				break
			}
			must(t, err)
			if size < 64 && n > 2000 {
				break
			}
		}
	}
}

func TestResetAndUndoWithNoByteFree(t *testing.T) {
	for kind, mib := range sizes {
		t.Run(kind, func(t *testing.T) {
			root := image(t, kind, mib)
			d := populate(t, root)
			must(t, d.KeepBallast())
			if !d.hasBallast() {
				t.Fatal("there is no ballast")
			}
			fill(t, filepath.Join(root, "data/var"))
			r, err := d.room()
			must(t, err)
			t.Logf("%d bytes and %d files are left", r.bytes, r.files)
			before := list(t, filepath.Join(root, "etc/1"))
			id := newID(now)
			filed, err := d.Ask("command line", "etc", Request{Kind: Reset, Scope: ScopeEtc, Keep: []string{"identity"}}, now)
			must(t, err)
			out, err := d.CarryOut(context.Background(), orders())
			must(t, err)
			if !filed || len(out) != 1 || out[0].Outcome != Done || out[0].Err != nil {
				t.Fatalf("CarryOut = %+v, want a reset that is done", out)
			}
			if _, err := os.Lstat(filepath.Join(root, "etc/1/fs/ssh/sshd_config")); err == nil {
				t.Error("sshd_config is still there")
			}
			_, err = d.File(Request{Kind: Undo, Of: id}, now)
			must(t, err)
			out, err = d.CarryOut(context.Background(), orders())
			must(t, err)
			if len(out) != 1 || out[0].Outcome != Done || out[0].Err != nil {
				t.Fatalf("CarryOut = %+v, want an undo that is done", out)
			}
			if after := list(t, filepath.Join(root, "etc/1")); !slices.Equal(before, after) {
				t.Error("the undo did not bring everything back")
			}
			// Everything goes, and the ballast is whole again once the trash is empty.
			_, err = d.File(Request{Kind: Reset, Scope: ScopeAll}, now)
			must(t, err)
			out, err = d.CarryOut(context.Background(), orders())
			must(t, err)
			if len(out) != 1 || out[0].Outcome != Done {
				t.Fatalf("CarryOut = %+v, want a reset that is done", out)
			}
			_, err = d.Bless("b", "1", now)
			must(t, err)
			_, _, err = d.EmptyTrash(context.Background(), 0, nil)
			must(t, err)
			var st unix.Stat_t
			must(t, unix.Stat(filepath.Join(root, "ballast/blocks"), &st))
			if st.Blocks*512 < ballastSize {
				t.Errorf("the ballast has %d bytes of blocks, want %d", st.Blocks*512, ballastSize)
			}
		})
	}
}

func TestResetWithNoInodeFree(t *testing.T) {
	root := image(t, "ext4", 32, "-N", "512")
	d := populate(t, root)
	must(t, d.KeepBallast())
	for n := 0; ; n++ {
		f, err := os.Create(filepath.Join(root, "data/var", fmt.Sprint("inode-", n)))
		if errors.Is(err, unix.ENOSPC) {
			break
		}
		must(t, err)
		f.Close()
	}
	r, err := d.room()
	must(t, err)
	if r.files != 0 {
		t.Fatalf("%d inodes are left", r.files)
	}
	file(Request{Kind: Reset, Scope: "/var"})(t, d)
	out, err := d.CarryOut(context.Background(), orders())
	must(t, err)
	if len(out) != 1 || out[0].Outcome != Done || out[0].Err != nil {
		t.Errorf("CarryOut = %+v, want done", out)
	}
}

func TestSnapshotsKeepEverythingAndShareWhatTheyCan(t *testing.T) {
	for kind, mib := range sizes {
		t.Run(kind, func(t *testing.T) {
			root := image(t, kind, mib)
			d := populate(t, root)
			big := filepath.Join(root, "etc/1/fs/big")
			must(t, os.WriteFile(big, make([]byte, 3<<20), 0o600))
			must(t, os.Link(big, filepath.Join(root, "etc/1/fs/NetworkManager/twin")))
			must(t, unix.Lsetxattr(big, "user.note", []byte("kept"), 0))
			must(t, os.WriteFile(filepath.Join(root, "etc/1/fs/large"), make([]byte, 2<<20), 0o600))
			take := func(name string, at time.Time) Snapshot {
				t.Helper()
				s, err := d.CreateSnapshot(context.Background(), SnapshotSpec{Name: name, Serial: "1", Boot: "b", Data: true, Identity: true, Now: at})
				must(t, err)
				return s
			}
			// Two seconds on, so that what was written is no longer of the same tick.
			future := time.Now().Add(2 * time.Second)
			first := take("first", future)
			for _, tree := range []string{"etc/1/fs", "merge/opt/fs", "data", "identity"} {
				a, b := list(t, filepath.Join(root, tree)), list(t, filepath.Join(root, "snapshots/first", tree))
				if tree == "data" { // made on the way, for root alone
					a, b = a[1:], b[1:]
				}
				if !slices.Equal(a, b) {
					t.Errorf("%s of the snapshot:\n%s\nwant\n%s", tree, strings.Join(b, "\n"), strings.Join(a, "\n"))
				}
			}
			value := make([]byte, 16)
			if n, err := unix.Lgetxattr(filepath.Join(root, "snapshots/first/etc/1/fs/big"), "user.note", value); err != nil || string(value[:n]) != "kept" {
				t.Errorf("an attribute was lost: %q, %v", value[:max(n, 0)], err)
			}
			ino := func(rel string) uint64 {
				var st unix.Stat_t
				must(t, unix.Lstat(filepath.Join(root, rel), &st))
				return st.Ino
			}
			if ino("snapshots/first/etc/1/fs/big") != ino("snapshots/first/etc/1/fs/NetworkManager/twin") {
				t.Error("two names of one file became two files")
			}
			must(t, os.WriteFile(filepath.Join(root, "etc/1/fs/hostname"), []byte("two"), 0o640))
			second := take("second", future.Add(time.Minute))
			t.Logf("first: %d copied, %d shared; second: %d copied, %d shared", first.Copied, first.Shared, second.Copied, second.Shared)
			for _, rel := range []string{"etc/1/fs/large", "etc/1/fs/big", "etc/1/fs/hostname"} {
				if live := ino(rel); live == ino("snapshots/first/"+rel) || live == ino("snapshots/second/"+rel) {
					t.Errorf("%s in use is the file of a snapshot", rel)
				}
			}
			if one := ino("snapshots/second/etc/1/fs/big"); one != ino("snapshots/second/etc/1/fs/NetworkManager/twin") || kind == "ext4" && one != ino("snapshots/first/etc/1/fs/big") {
				t.Error("a file with two names that did not change is not shared, or is two files in the second snapshot")
			}
			if kind == "ext4" && (second.Copied > 1<<20 || ino("snapshots/first/etc/1/fs/large") != ino("snapshots/second/etc/1/fs/large")) {
				t.Errorf("the second snapshot copied %d bytes, and what did not change is not shared", second.Copied)
			}
			if kind != "ext4" && first.Copied != 0 {
				t.Errorf("%d bytes were copied where blocks can be shared", first.Copied)
			}
			for name, want := range map[string]string{"first": "one", "second": "two"} {
				text, err := os.ReadFile(filepath.Join(root, "snapshots", name, "etc/1/fs/hostname"))
				if err != nil || string(text) != want {
					t.Errorf("the hostname in %s is %q, %v, want %q", name, text, err, want)
				}
			}
			all, problems, err := d.Snapshots()
			if err != nil || len(problems) > 0 || len(all) != 2 || all[0].Name != "first" {
				t.Errorf("Snapshots = %+v, %v, %v", all, problems, err)
			}
			if _, err := d.CreateSnapshot(context.Background(), SnapshotSpec{Name: "first", Serial: "1", Now: now}); err == nil {
				t.Error("a snapshot was made twice")
			}
			must(t, d.DeleteSnapshot("first"))
			_, _, err = d.EmptyTrash(context.Background(), 0, nil)
			must(t, err)
			if _, err := os.ReadFile(filepath.Join(root, "snapshots/second/etc/1/fs/large")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAnUpperThatComesBackHasAWorkDirectory(t *testing.T) {
	root := memory(t)
	d := populate(t, root)
	put(t, root, "data/mixed/fs/x x", "data/mixed/work/")
	must(t, d.WriteStamp("data/mixed", Stamp{Product: "kiosk", Base: "b1", Serial: "1", Lowers: []string{"t1", "b1"}}))
	_, err := d.CreateSnapshot(context.Background(), SnapshotSpec{Name: "s", Serial: "1", Boot: "b", Data: true, Identity: true, Now: now})
	must(t, err)
	carried(t, d, Request{Kind: Restore, Snapshot: "s"})
	for _, upper := range []string{"etc/1", "merge/opt", "data/mixed"} {
		if !d.isDir(upper + "/work") {
			t.Errorf("%s has no work directory, without which overlayfs mounts nothing", upper)
		}
	}
	for _, plain := range []string{"data/var", "identity"} {
		if d.isDir(plain + "/work") {
			t.Errorf("%s is no upper, and has a work directory", plain)
		}
	}
}

func TestASnapshotThatDoesNotFitLeavesNothing(t *testing.T) {
	root := image(t, "ext4", 64)
	d := populate(t, root)
	must(t, os.WriteFile(filepath.Join(root, "etc/1/fs/large"), make([]byte, 24<<20), 0o600))
	before := list(t, root, "trash")
	_, err := d.CreateSnapshot(context.Background(), SnapshotSpec{Name: "s", Serial: "1", Now: now})
	if !errors.Is(err, ErrNoRoom) {
		t.Errorf("CreateSnapshot = %v, want ErrNoRoom", err)
	}
	if after := list(t, root, "trash"); !slices.Equal(before, after) {
		t.Error("something is left of it")
	}
}

func TestTheTrashTakesSubvolumes(t *testing.T) {
	root := image(t, "btrfs", 128)
	d := populate(t, root)
	sub := filepath.Join(root, "data/var/lib/sub")
	if out, err := exec.Command("btrfs", "subvolume", "create", sub).CombinedOutput(); err != nil {
		t.Skipf("btrfs subvolume create: %v: %s", err, out)
	}
	put(t, sub, "inside/x y")
	carried(t, d, Request{Kind: Reset, Scope: ScopeAll, Keep: []string{"/var/lib/app"}})
	if _, err := os.Lstat(sub); err == nil {
		t.Error("the subvolume is still in its place")
	}
	_, err := d.Bless("b", "1", now)
	must(t, err)
	left, _, err := d.EmptyTrash(context.Background(), 0, nil)
	if err != nil || left {
		t.Errorf("EmptyTrash = %v, %v", left, err)
	}
}
