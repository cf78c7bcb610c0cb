package installed

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/boot"
)

// rootFS is the root file system of a system.
type rootFS struct {
	ref     string   // what veneer.root= says
	fsType  string   // also the name of its module
	drivers []string // of the running machine
	notes   []string
}

// rootOf finds the root by what /etc/fstab says of it, or the caller, and on the running system by what is mounted.
func rootOf(s Spec) (rootFS, error) {
	line, separate, err := fstabRoot(s.Root)
	if err != nil {
		return rootFS{}, err
	}
	r := rootFS{ref: s.Device, fsType: line.fsType}
	if separate != "" {
		return r, fmt.Errorf("/etc/fstab mounts %s from a file system of its own, and the init mounts the root alone: this system cannot be booted so", separate)
	}
	if r.ref == "" {
		if r.ref = line.spec; r.ref == "" {
			return r, errors.New("/etc/fstab does not say what / is mounted from: name it with --device (blkid tells its UUID)")
		}
		if line.subvolume != "" {
			r.ref += ":/" + strings.TrimPrefix(line.subvolume, "/")
		}
	}
	if _, err := boot.ParseRoot(r.ref); err != nil {
		return r, fmt.Errorf("the root: %w; name it with --device", err)
	}
	if strings.HasPrefix(r.ref, "/dev/mapper/") || strings.HasPrefix(r.ref, "/dev/md") || strings.HasPrefix(r.ref, "/dev/dm-") {
		return r, fmt.Errorf("the root is %s: LVM, RAID and encrypted roots are not opened by the init", r.ref)
	}
	if strings.HasPrefix(r.ref, "/dev/") && !strings.HasPrefix(r.ref, "/dev/disk/") {
		r.notes = append(r.notes, r.ref+" may be another disk at the next boot; name it with --device (blkid tells its UUID)")
	}
	if s.Root == "/" {
		fsType, device, err := mounted()
		if err != nil {
			return r, err
		}
		r.fsType, r.drivers = fsType, driversOf("/sys", device)
	}
	switch r.fsType {
	case "ext4", "btrfs", "xfs":
	case "":
		return r, fmt.Errorf("%s has no line for /, which tells the file system of %s: give it one (%s / ext4 defaults 0 1)", filepath.Join(s.Root, "etc/fstab"), r.ref, r.ref)
	default:
		return r, fmt.Errorf("the root is on %q: it can be ext4, btrfs or xfs", r.fsType)
	}
	return r, nil
}

// fstabLine is what fstab(5) says of /.
type fstabLine struct{ spec, fsType, subvolume string }

// fstabRoot also returns a directory that the root cannot do without and that lies elsewhere.
func fstabRoot(root string) (line fstabLine, separate string, err error) {
	f, err := os.Open(filepath.Join(root, "etc/fstab"))
	if errors.Is(err, os.ErrNotExist) {
		return line, "", nil
	}
	if err != nil {
		return line, "", err
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	for in.Scan() {
		w := strings.Fields(in.Text())
		if len(w) < 3 || w[0][0] == '#' {
			continue
		}
		switch w[1] {
		case "/usr", "/etc":
			separate = w[1]
		case "/":
			line = fstabLine{spec: strings.ReplaceAll(w[0], `"`, ""), fsType: w[2]}
			if len(w) > 3 {
				for _, option := range strings.Split(w[3], ",") {
					if name, ok := strings.CutPrefix(option, "subvol="); ok {
						line.subvolume = name
					}
				}
			}
		}
	}
	return line, separate, in.Err()
}

// protected refuses to change a system that forgets it.
func (s Spec) protected() error {
	if s.Root != "/" {
		return nil
	}
	fsType, _, err := mounted()
	if err == nil && fsType == "overlay" {
		err = errors.New("this system runs under an overlay, and what is written now is gone at the next boot: boot the distribution's own entry first")
	}
	return err
}

// mounted is what / is on this machine: its type, and the number of its device as sysfs has it, "" for none.
func mounted() (fsType, number string, err error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", "", err
	}
	device := ""
	for line := range strings.Lines(string(text)) {
		left, right, _ := strings.Cut(line, " - ")
		l, w := strings.Fields(left), strings.Fields(right)
		if len(l) > 4 && l[4] == "/" && len(w) > 1 {
			fsType, device = w[0], w[1]
		}
	}
	// Of the device and not of the mount: a btrfs has a number of its own.
	var st unix.Stat_t
	if unix.Stat(device, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK {
		number = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	return fsType, number, nil
}

// driversOf lists the modules that drive a block device, from its disk up to the bus that it hangs on.
func driversOf(sys, number string) []string {
	var found []string
	if number == "" {
		return nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Join(sys, "dev/block", number))
	for ; err == nil && len(dir) > len(sys) && strings.HasPrefix(dir, sys); dir = filepath.Dir(dir) {
		module, lerr := filepath.EvalSymlinks(filepath.Join(dir, "driver/module"))
		if name := filepath.Base(module); lerr == nil && !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	return found
}
