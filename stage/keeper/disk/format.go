package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/images"
	"veneer/initramfs/machine/probe"
	"veneer/stage"
)

const (
	sectorSize  = 512
	formatLimit = 10 * time.Minute
	checkLimit  = 30 * time.Minute
)

// maker is how a file system is made.
type maker struct {
	pkg      string
	args     []string // before the label's
	maxLabel int
}

// makerOf says how a file system that can hold an upper is made. Nothing is discarded, which on a large disk takes minutes, and
// what can be filled in later by the kernel is.
func makerOf(fsType string) (maker, bool) {
	switch fsType {
	case "ext4":
		return maker{"e2fsprogs", []string{"-q", "-m", "1", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", "-L"}, 16}, true
	case "btrfs":
		return maker{"btrfs-progs", []string{"-q", "-K", "-L"}, 255}, true
	case "xfs":
		return maker{"xfsprogs", []string{"-q", "-K", "-L"}, 12}, true
	}
	return maker{}, false
}

// Format makes a file system on a device that holds nothing:
//
//   - takes the device for itself, and looks whether it holds nothing
//   - marks it as being made, clears its beginning
//   - runs mkfs on all of it but the mark's place
//   - waits until that is on the disk, looks whether it is what was asked for, removes the mark
func (m *Disk) Format(ctx context.Context, root, device, fsType, label string) (err error) {
	wrap := func(err error) error { return fmt.Errorf("make %s on %s: %w", fsType, device, err) }
	mk, ok := makerOf(fsType)
	if !ok {
		return wrap(errors.New("no upper can live on it; use ext4, btrfs or xfs"))
	}
	if label == "" || len(label) > mk.maxLabel {
		return wrap(fmt.Errorf("label %q: want 1 to %d bytes", label, mk.maxLabel))
	}
	s, err := openSite(device)
	if err != nil {
		return wrap(err)
	}
	defer s.Close()
	if err := m.mkfs(ctx, root, s, fsType, label); err != nil {
		return wrap(err)
	}
	return s.done()
}

// mkfs makes a file system on all of a device but its last MiB.
func (m *Disk) mkfs(ctx context.Context, root string, s *site, fsType, label string) error {
	loop, err := images.AttachWritable(s.File, s.size-probe.Reserved, sectorOf(s.File))
	if err != nil {
		return err
	}
	mk, _ := makerOf(fsType)
	_, _, err = m.run(ctx, root, tool{program: "mkfs." + fsType, pkg: mk.pkg, limit: formatLimit,
		args: append(mk.args, label, loop.Path)})
	if err == nil {
		err = flush(loop.Path)
	}
	if err = errors.Join(err, loop.Close(), s.Sync()); err != nil {
		return err
	}
	// Its own pages of the device may be older than what went through the loop.
	if c, err := probe.Sniff(s, s.size); err != nil || c.Type != fsType || c.Label != label {
		return fmt.Errorf("mkfs ended well, but what is there is %q with the label %q: %w", c.Type, c.Label, err)
	}
	return nil
}

// flush waits until what was written to a block device is on the disk.
func flush(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// sectorOf is the logical sector size of a block device, and of anything else the usual one.
func sectorOf(f *os.File) int {
	if n, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET); err == nil && n >= sectorSize {
		return n
	}
	return sectorSize
}

// checker is how a file system is checked: the arguments, and the exit codes that mean that all is well now.
type checker struct {
	program, pkg string
	args         []string
	repaired     []int
}

// checkerOf says how a file system is checked when that much may be repaired.
func checkerOf(fsType string, how stage.CheckSpec) (checker, bool) {
	pick := func(preen, yes, no string) string {
		switch how.Repair {
		case boot.FsckYes:
			return yes
		case boot.FsckNo:
			return no
		}
		return preen
	}
	switch fsType {
	case "ext4":
		// e2fsck(8): 1 is repaired, 2 is repaired and wants a reboot where it is mounted, which it is not; 4 and more is not.
		return checker{"e2fsck", "e2fsprogs", []string{"-f", pick("-p", "-y", "-n")}, []int{1, 2, 3}}, true
	case "vfat":
		return checker{"fsck.vfat", "dosfstools", []string{pick("-a", "-y", "-n")}, []int{1}}, true
	case "exfat":
		return checker{"fsck.exfat", "exfatprogs", []string{pick("-p", "-y", "-n")}, []int{1}}, true
	case "xfs":
		// xfs_repair(8): with -e 4 is repaired; 2 is a log that the kernel has to replay first, by a mount.
		return checker{"xfs_repair", "xfsprogs", []string{pick("-n", "-e", "-n")}, []int{4}}, true
	case "btrfs":
		// btrfs-check(8): its repair is for experts, so that even "yes" means it for a file system alone that does not mount.
		if how.Repair == boot.FsckYes && how.Failed {
			return checker{"btrfs", "btrfs-progs", []string{"check", "--repair", "--force"}, nil}, true
		}
		return checker{"btrfs", "btrfs-progs", []string{"check", "--readonly"}, nil}, true
	}
	return checker{}, false
}

// Check runs the checker of a file system, because of why. With fsck.repair=no a check that finds anything is an error.
func (m *Disk) Check(ctx context.Context, root, device, fsType string, how stage.CheckSpec, why string) (stage.Checked, error) {
	wrap := func(err error) error { return fmt.Errorf("check %s on %s: %w", fsType, device, err) }
	c, known := checkerOf(fsType, how)
	if !known {
		return stage.Checked{}, wrap(errors.New("no program is known for it"))
	}
	result := stage.Checked{Why: why, Program: c.program}
	code, _, err := m.run(ctx, root, tool{program: c.program, pkg: c.pkg, limit: checkLimit, good: c.repaired,
		args: append(c.args, device)})
	switch {
	case err != nil && fsType == "xfs" && code == 2:
		return result, wrap(fmt.Errorf("its log has to be replayed by a mount first: %w", err))
	case err != nil && how.Repair != boot.FsckYes && !errors.Is(err, stage.ErrNoTool):
		return result, wrap(fmt.Errorf("%w; fsck.repair=yes lets it repair what takes a decision", err))
	case err != nil:
		return result, wrap(err)
	case code != 0 && how.Repair == boot.FsckNo:
		return result, wrap(errors.New("it has errors, and fsck.repair=no"))
	}
	result.Repaired = code != 0
	return result, nil
}
