package esp

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is a mounted EFI system partition.
type Dir struct {
	Path  string
	mount string // mounted here by Mount; empty: it was there
}

// Mount mounts the partition on a device, or takes the mount that is there already. Close takes down what Mount mounted.
func Mount(device string, write bool) (Dir, error) {
	if at, err := mounted(device); err != nil || at != "" {
		return Dir{Path: at}, err
	}
	at, err := os.MkdirTemp("/run", "veneer-esp-")
	if err != nil {
		return Dir{}, err
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if !write {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount(device, at, "vfat", flags, "umask=0077"); err != nil {
		return Dir{}, errors.Join(&os.PathError{Op: "mount EFI system partition", Path: device, Err: err}, os.Remove(at))
	}
	return Dir{at, at}, nil
}

// Close gives a mount back.
func (d Dir) Close() error {
	if d.mount == "" {
		return nil
	}
	if err := unix.Unmount(d.mount, 0); err != nil {
		return &os.PathError{Op: "unmount", Path: d.mount, Err: err}
	}
	return os.Remove(d.mount)
}

// mounted is where the whole file system of a device is mounted, read-write mounts first; empty where it is not.
func mounted(device string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: device, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return "", fmt.Errorf("%s is no block device", device)
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	id := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	found := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text()) // proc_pid_mountinfo(5)
		if len(words) < 6 || words[2] != id || words[3] != "/" {
			continue
		}
		at := unescape(words[4])
		if strings.HasPrefix(words[5], "rw") {
			return at, nil
		}
		found = at
	}
	return found, nil
}

// unescape undoes what the kernel does to blanks in paths.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
