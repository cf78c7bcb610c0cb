package switchroot

// Before: PID 1 runs from the initramfs (rootfs, a ramfs or tmpfs); /dev /proc /sys /run are mounted on it; the merged root is
// mounted on a directory of it.
// After: the merged root is /; the four mounts are on it; of the initramfs nothing is left but the exitrd, which is reached
// through a mount in /run; PID 1 is the next init.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"veneer/overlay/mount"
)

// moved are the mounts that go along, see "initrd interface" of systemd: the next init finds them made.
var moved = []string{"/dev", "/proc", "/sys", "/run"}

// Exitrd is the directory of the initramfs that stays. Its file shutdown is this very program: a copy elsewhere would cost time,
// and giving the original back would cost an emulated CPU more, which has to forget what it translated of it.
const Exitrd = "/exitrd"

// ExitrdDirs are directories of the exitrd that systemd-shutdown mounts on, having made it read-only before.
var ExitrdDirs = []string{Exitrd + "/dev", Exitrd + "/proc", Exitrd + "/sys", Exitrd + "/run", Exitrd + oldRoot}

// markers are files that only our initramfs has in its root.
var markers = []string{"/init", "/etc/veneer/cmdline"}

// Switch makes root the root directory, empties the initramfs but for Exitrd, and executes init with args and env, as the kernel would have.
// It returns only on failure: an error before the initramfs was emptied leaves everything where it was.
func Switch(root, init string, args, env []string) error {
	if err := fences(root); err != nil {
		return fmt.Errorf("refusing to switch root: %w", err)
	}
	old, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: "/", Err: err}
	}
	defer unix.Close(old)
	if err := moveMounts(mount.Kernel{}, root); err != nil {
		return err
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	// Moving over / rather than pivot_root(2), which the kernel refuses on rootfs.
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return &fs.PathError{Op: "move mount", Path: "/", Err: err}
	}
	if err := unix.Chroot("."); err != nil {
		return &fs.PathError{Op: "chroot", Path: root, Err: err}
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	// What cannot be deleted only costs memory, and by now there is no way back that would be better than going on.
	hoard("1000000")
	_ = empty(old)
	hoard("0")
	return &fs.PathError{Op: "execute", Path: init, Err: unix.Exec(init, append([]string{init}, args...), env)}
}

// fences are the conditions without which nothing may be deleted, each with an error of its own.
func fences(root string) error {
	var here, there unix.Stat_t
	if err := unix.Lstat("/", &here); err != nil {
		return fmt.Errorf("stat /: %w", err)
	}
	if err := unix.Lstat(root, &there); err != nil {
		return fmt.Errorf("stat %s: %w", root, err)
	}
	var fsys unix.Statfs_t
	if err := unix.Statfs("/", &fsys); err != nil {
		return fmt.Errorf("statfs /: %w", err)
	}
	switch {
	case os.Getpid() != 1:
		return fmt.Errorf("this is process %d, not PID 1", os.Getpid())
	case here.Dev == there.Dev:
		return fmt.Errorf("nothing is mounted on %s", root)
	case fsys.Type != unix.RAMFS_MAGIC && fsys.Type != unix.TMPFS_MAGIC:
		return fmt.Errorf("/ is a file system of type %#x, not an initramfs", fsys.Type)
	}
	for _, m := range markers {
		var st unix.Stat_t
		if err := unix.Lstat(m, &st); err != nil {
			return fmt.Errorf("%s, which marks our initramfs: %w", m, err)
		}
		if st.Dev != here.Dev {
			return fmt.Errorf("%s, which marks our initramfs, lies on another device", m)
		}
	}
	return nil
}

// moveMounts moves the four mounts below root, making their directories where the root allows it. A move that fails takes
// the former ones back.
func moveMounts(k mount.Applier, root string) (err error) {
	var done []mount.Op
	defer func() {
		if err == nil {
			return
		}
		for i := len(done) - 1; i >= 0; i-- {
			err = errors.Join(err, k.Apply(done[i].Undo()))
		}
	}()
	for _, dir := range moved {
		target := filepath.Join(root, dir)
		if info, serr := os.Lstat(target); serr != nil || !info.IsDir() {
			if merr := k.Apply(mount.Mkdir{Path: target, Mode: 0o755}); merr != nil {
				return fmt.Errorf("the merged root has no directory %s and none can be made: %w", dir, merr)
			}
		}
		op := mount.Move{Source: dir, Target: target}
		if err := k.Apply(op); err != nil {
			return err
		}
		done = append(done, op)
	}
	return nil
}

// hoard sets how much free memory a CPU may keep on lists of its own, as a fraction of the zone; 0 is the kernel's default
// (Documentation/admin-guide/sysctl/vm.rst, percpu_pagelist_high_fraction, since 5.14). By default the whole of an initramfs
// fits there, and what was deleted would be missing from MemFree and MemAvailable until memory gets short.
func hoard(fraction string) {
	_ = os.WriteFile("/proc/sys/vm/percpu_pagelist_high_fraction", []byte(fraction), 0)
}

// empty deletes everything in the directory fd that lies on its device, the exitrd excepted, without following links. It goes
// on after an error.
func empty(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	return emptyOn(fd, st.Dev, filepath.Base(Exitrd))
}

func emptyOn(fd int, dev uint64, keep string) error {
	// A descriptor of its own: closing the *os.File must not close the caller's.
	own, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(own), "initramfs")
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	errs := []error{err}
	for _, name := range names {
		if name == keep {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Dev != dev {
			errs = append(errs, err)
			continue
		}
		flags := 0
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			sub, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			errs = append(errs, emptyOn(sub, dev, ""), unix.Close(sub))
			flags = unix.AT_REMOVEDIR
		}
		errs = append(errs, unix.Unlinkat(fd, name, flags))
	}
	return errors.Join(errs...)
}
