package switchroot

// Before: the running system has stopped; systemd-shutdown (or another init) has made /run/initramfs the root, with the former
// root at /oldroot and /dev /proc /sys /run bound in, and executed /shutdown VERB (see "exitrd", systemd's
// INITRD_INTERFACE.md).
// After: root, upper, images and store are unmounted, dm and loop devices gone, and the machine does what VERB says.

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/images/devmapper"
	"veneer/overlay/mount"
)

// unmountRounds bounds the rounds over the mount table: each must unmount something, and what lies on what is a few levels
// deep.
const unmountRounds = 32

// oldRoot is where systemd-shutdown leaves the former root.
const oldRoot = "/oldroot"

// Verbs of systemd-shutdown(8), and the reboot(2) command that carries each out.
var verbs = map[string]int{
	"reboot":   unix.LINUX_REBOOT_CMD_RESTART,
	"poweroff": unix.LINUX_REBOOT_CMD_POWER_OFF,
	"halt":     unix.LINUX_REBOOT_CMD_HALT,
	"kexec":    unix.LINUX_REBOOT_CMD_KEXEC,
}

// Shutdown takes the merged root down and then stops the machine as args[0] says; without a verb that it knows it powers off.
// It says on say what stayed busy, and returns only where even stopping the machine failed.
func Shutdown(args []string, say func(string)) error {
	verb := "poweroff"
	if len(args) > 0 {
		verb = args[0]
	}
	cmd, ok := verbs[verb]
	if !ok {
		say(fmt.Sprintf("no such verb %q; powering off", verb))
		cmd = unix.LINUX_REBOOT_CMD_POWER_OFF
	}
	busy := takeDown()
	for _, b := range busy {
		say("still busy: " + b)
	}
	if len(busy) == 0 {
		say("root, upper, images and store are down")
	}
	unix.Sync()
	say(verb)
	err := unix.Reboot(cmd)
	if cmd == unix.LINUX_REBOOT_CMD_KEXEC && err != nil {
		say("no kernel is loaded for kexec; rebooting")
		err = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	}
	return fmt.Errorf("%s: %w", verb, err)
}

// takeDown unmounts everything that is not part of the exitrd itself, then removes our dm devices, round after round as long
// as something goes: a store can only be unmounted when the loop devices on it are gone. Loop devices go by themselves with
// their last user. It returns what stayed.
func takeDown() (busy []string) {
	if err := bringBack(); err != nil {
		busy = append(busy, err.Error())
	}
	for range unmountRounds {
		progress := false
		busy = busy[:0]
		for _, m := range foreignMounts() {
			if err := unix.Unmount(m.Target, unix.UMOUNT_NOFOLLOW); err != nil {
				busy = append(busy, fmt.Sprintf("%s (%s from %s): %v", m.Target, m.Type, m.Source, err))
			} else {
				progress = true
			}
		}
		removed, stuck := removeDevices()
		busy = append(busy, stuck...)
		if len(busy) == 0 || !progress && removed == 0 {
			return append(busy, boundLoops()...)
		}
	}
	return busy
}

// bringBack moves what is mounted below the former root's /run to the same place below ours, which is the same tmpfs. The
// store would otherwise keep the root busy, and the root, through its images, the store.
func bringBack() error {
	k := mount.Kernel{}
	if err := k.Apply(mount.Private{Target: "/"}); err != nil { // what is shared cannot be moved
		return err
	}
	var errs []error
	mounts := foreignMounts()
	for i := len(mounts) - 1; i >= 0; i-- { // first mounted first, with what lies on it
		if to, ok := strings.CutPrefix(mounts[i].Target, oldRoot); ok && strings.HasPrefix(to, "/run/initramfs/") {
			// Ours is the bare tmpfs: the exitrd that lay on its /run/initramfs is the root now.
			errs = append(errs, k.Apply(mount.Mkdir{Path: to, Mode: 0o755}), k.Apply(mount.Move{Source: mounts[i].Target, Target: to}))
		}
	}
	return errors.Join(errs...)
}

// foreignMounts lists the mounts to be undone, last mounted first: all but the exitrd's own root and the file systems of the
// kernel that it needs until the end.
func foreignMounts() []mount.Entry {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	table, err := mount.ReadTable(f)
	if err != nil {
		return nil
	}
	keep := []string{"/", "/dev", "/proc", "/sys", "/run"}
	return slices.DeleteFunc(mount.Below(table, "/"), func(e mount.Entry) bool {
		return slices.Contains(keep, e.Target)
	})
}

// removeDevices removes the dm devices that Attach made.
func removeDevices() (removed int, busy []string) {
	dm, err := devmapper.Open()
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil // no device-mapper: nothing was verified
	}
	if err != nil {
		return 0, []string{err.Error()}
	}
	defer dm.Close()
	names, err := dm.Names()
	if err != nil {
		return 0, []string{err.Error()}
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "veneer-") {
			continue
		}
		if err := dm.Remove(name); err != nil {
			busy = append(busy, err.Error())
		} else {
			removed++
		}
	}
	return removed, busy
}

// boundLoops names the loop devices that still hold a file.
func boundLoops() (busy []string) {
	entries, err := os.ReadDir("/sys/block")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if file, err := os.ReadFile("/sys/block/" + e.Name() + "/loop/backing_file"); err == nil {
			busy = append(busy, fmt.Sprintf("%s holds %s", e.Name(), strings.TrimSpace(string(file))))
		}
	}
	return busy
}
