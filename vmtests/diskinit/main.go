// Command diskinit is a PID 1 that does to real disks what a boot with a state does, one thing after the other, and says how each
// went, with itself as the keeper. The case 210 puts it in the place of the init.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/images"
	"veneer/initramfs/machine"
	"veneer/overlay/mount"
	"veneer/stage"
	"veneer/stage/keeper"
)

// The disks of the case, by their order.
const (
	keyDisk        = "/dev/vdb"
	byKey          = "/dev/vdc"
	byTPMAndKey    = "/dev/vdd"
	byTPM          = "/dev/vde"
	byPerson       = "/dev/vdf"
	byNobody       = "/dev/vdg"
	stick          = "/dev/vdh"
	larger         = "/dev/vdi"
	exfatStick     = "/dev/vdj"
	mib            = 1 << 20
	content        = "what the first boot left"
	mountpoint     = "/mnt"
	patience       = time.Minute
	partitionLabel = "veneer-state"
)

var (
	key    = stage.UnlockSpec{Kind: stage.UnlockKeyFile, Name: "by-key", Wait: patience, KeyDevice: boot.DeviceRef{Kind: boot.ByLabel, Value: "KEYS"}, KeyFile: "keys/state.key"}
	tpmKey = stage.UnlockSpec{Kind: stage.UnlockTPM2, Name: "by-tpm-and-key", PCRs: "7", Wait: patience, KeyDevice: key.KeyDevice, KeyFile: key.KeyFile}
	tpm    = stage.UnlockSpec{Kind: stage.UnlockTPM2, Name: "by-tpm", PCRs: "4+7"}
	person = stage.UnlockSpec{Kind: stage.UnlockPassphrase, Name: "by-person"}
	nobody = stage.UnlockSpec{Kind: stage.UnlockRandom, Name: "by-nobody"}
)

type lab struct {
	*machine.Machine
	ctx   context.Context
	store string
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "keep" { // as which it runs itself
		ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
		defer stop()
		if err := keeper.Serve(ctx, os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		return
	}
	if err := run(); err != nil {
		fmt.Printf("disktest: FAILED: %v\n", err)
	}
	fmt.Println("disktest: end")
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() error {
	for _, op := range []mount.Op{
		mount.Mkdir{Path: "/dev", Mode: 0o755}, mount.Mount{Type: "devtmpfs", Source: "devtmpfs", Target: "/dev"},
		mount.Mkdir{Path: "/proc", Mode: 0o755}, mount.Mount{Type: "proc", Source: "proc", Target: "/proc"},
		mount.Mkdir{Path: "/sys", Mode: 0o755}, mount.Mount{Type: "sysfs", Source: "sysfs", Target: "/sys"},
		mount.Mkdir{Path: "/run", Mode: 0o755}, mount.Mount{Type: "tmpfs", Source: "tmpfs", Target: "/run"},
		mount.Mkdir{Path: mountpoint, Mode: 0o755}, mount.Private{Target: "/"},
	} {
		if err := (mount.Kernel{}).Apply(op); err != nil && !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err
	}
	m, err := machine.New(unix.ByteSliceToString(uts.Release[:]))
	if err != nil {
		return err
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	m.Detail = func(format string, args ...any) { fmt.Printf("detail: "+format+"\n", args...) }
	if err := m.SetKeeper("/init"); err != nil {
		return err
	}
	l := &lab{m, context.Background(), ""}
	if err := l.base(); err != nil {
		return err
	}
	for _, word := range strings.Fields(string(line)) {
		switch word {
		case "disktest=make":
			return l.make()
		case "disktest=open":
			return l.open()
		case "disktest=other":
			return l.other()
		}
	}
	return errors.New("nothing to do")
}

// base mounts the base of the store, as a boot does.
func (l *lab) base() error {
	ctx, cancel := context.WithTimeout(l.ctx, patience)
	defer cancel()
	if err := l.Drivers(ctx, 0); err != nil {
		return err
	}
	d, err := l.Device(ctx, boot.DeviceRef{Kind: boot.ByLabel, Value: "VENEER"})
	if err != nil {
		return err
	}
	l.store = d.Path
	if err := errors.Join(l.Modules(d.FileSystem, "loop", "dm_verity", "squashfs"), l.mount(d.Path, d.FileSystem, stage.StoreDir, mount.ReadOnly)); err != nil {
		return err
	}
	text, _, err := images.ReadDeployment(l.Files(stage.StoreDir+"/veneer"), "1")
	if err != nil {
		return err
	}
	man, err := images.ParseManifest(text)
	if err != nil {
		return err
	}
	attacher, err := l.Attacher(true)
	if err != nil {
		return err
	}
	defer attacher.Close()
	for _, img := range man.Images {
		if img.Role != images.RoleBase {
			continue
		}
		dev, mounted, _, err := attacher.Attach(stage.StoreDir+"/veneer/"+images.ImagePath(img.ID), img, man.Corruption)
		if err != nil {
			return err
		}
		return errors.Join(l.mount(dev, img.FileSystem, stage.BaseDir, mount.ReadOnly), mounted())
	}
	return errors.New("no base")
}

func (l *lab) mount(device, fsType, dir string, flags mount.Flags) error {
	return errors.Join(l.Apply(mount.Mkdir{Path: dir, Mode: 0o755}), l.Apply(mount.Mount{Type: fsType, Source: device, Target: dir, Flags: flags}))
}

// step does one thing and says how it went.
func (l *lab) step(name string, fn func(ctx context.Context) error) {
	ctx, cancel := context.WithTimeout(l.ctx, 4*patience)
	defer cancel()
	start := time.Now()
	if err := fn(ctx); err != nil {
		fmt.Printf("disktest: %s FAILED: %v\n", name, err)
		return
	}
	fmt.Printf("disktest: %s ok %dms\n", name, time.Since(start).Milliseconds())
}

// with mounts a device for the time of fn.
func (l *lab) with(device, fsType string, fn func() error) error {
	if err := l.mount(device, fsType, mountpoint, 0); err != nil {
		return err
	}
	return errors.Join(fn(), l.Apply(mount.Unmount{Target: mountpoint}))
}

func leave() error {
	return os.WriteFile(mountpoint+"/left", []byte(content), 0o600)
}

func found() error {
	if b, err := os.ReadFile(mountpoint + "/left"); err != nil || string(b) != content {
		return fmt.Errorf("what was left: %q, %w", b, err)
	}
	return nil
}

// make is the first boot.
func (l *lab) make() error {
	spec := stage.PartitionSpec{Name: partitionLabel, Size: 128 * mib, MinSize: 64 * mib}
	l.step("make a partition on the disk of the mounted store", func(ctx context.Context) error {
		d, err := l.CreatePartition(ctx, l.store, spec)
		if err != nil || !d.Empty || d.Size != 128*mib {
			return fmt.Errorf("%+v %w", d, err)
		}
		again, err := l.CreatePartition(ctx, l.store, spec)
		if err != nil || again != d {
			return fmt.Errorf("again: %+v %w", again, err)
		}
		if err := l.Format(ctx, stage.BaseDir, d.Path, "ext4", "STATE"); err != nil {
			return err
		}
		if _, err := l.CreatePartition(ctx, l.store, spec); !errors.Is(err, stage.ErrForeign) {
			return fmt.Errorf("a partition that holds something: %w", err)
		}
		return l.with(d.Path, "ext4", leave)
	})
	l.step("grow partition and ext4 while mounted", func(ctx context.Context) error {
		d, err := l.StateDevice(ctx, boot.DeviceRef{Kind: boot.ByPartLabel, Value: partitionLabel})
		if err != nil || d.FileSystem != "ext4" {
			return fmt.Errorf("%+v %w", d, err)
		}
		return l.with(d.Path, "ext4", func() error {
			if grew, err := l.GrowPartition(ctx, d.Path); !grew || err != nil {
				return fmt.Errorf("partition: %v, %w", grew, err)
			}
			if grew, err := l.GrowPartition(ctx, d.Path); grew || err != nil {
				return fmt.Errorf("partition again: %v, %w", grew, err)
			}
			if grew, err := l.GrowFileSystem(mountpoint); !grew || err != nil {
				return fmt.Errorf("file system: %v, %w", grew, err)
			}
			if grew, err := l.GrowFileSystem(mountpoint); grew || err != nil {
				return fmt.Errorf("file system again: %v, %w", grew, err)
			}
			var st unix.Statfs_t
			if err := unix.Statfs(mountpoint, &st); err != nil || int64(st.Blocks)*st.Bsize < 300*mib {
				return fmt.Errorf("it has %d MiB, %w", int64(st.Blocks)*st.Bsize/mib, err)
			}
			return errors.Join(found(), l.Modules("overlay"), l.ProbeUpper(ctx, mountpoint))
		})
	})
	l.step("a state file on a vfat stick", func(ctx context.Context) error {
		return l.stateFile(ctx, stick, "vfat", "codepage=437,iocharset=ascii")
	})
	l.step("a state file on an exfat stick", func(ctx context.Context) error { return l.stateFile(ctx, exfatStick, "exfat", "") })
	l.step("btrfs and xfs with the tools of the base", l.others)
	for device, how := range map[string]stage.UnlockSpec{byKey: key, byTPMAndKey: tpmKey, byTPM: tpm, byPerson: person, byNobody: nobody} {
		l.step("encrypt for "+how.Name, func(ctx context.Context) error { return l.encrypt(ctx, device, how) })
	}
	return nil
}

// others makes, mounts, grows and checks the file systems that the other steps do not.
func (l *lab) others(ctx context.Context) error {
	for _, fsType := range []string{"btrfs", "xfs"} {
		if err := l.Format(ctx, stage.BaseDir, larger, fsType, "OTHER"); err != nil {
			return err
		}
		if err := l.Modules(fsType); err != nil {
			return err
		}
		err := l.with(larger, fsType, func() error {
			grew, err := l.GrowFileSystem(mountpoint)
			if err == nil && !grew {
				err = errors.New("it did not grow by the last MiB")
			}
			return errors.Join(err, l.ProbeUpper(ctx, mountpoint), leave())
		})
		if err != nil {
			return fmt.Errorf("%s: %w", fsType, err)
		}
		c, err := l.Check(ctx, stage.BaseDir, larger, fsType, stage.CheckSpec{Mode: boot.FsckForce})
		if err != nil || c.Program == "" || c.Repaired {
			return fmt.Errorf("%s: %+v %w", fsType, c, err)
		}
		// Somebody gives the device away.
		f, err := os.OpenFile(larger, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(make([]byte, mib), 0)
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) stateFile(ctx context.Context, stick, fsType, options string) error {
	if err := l.ModulesOf(ctx, stage.BaseDir, fsType, "nls_cp437", "nls_ascii"); err != nil {
		return err
	}
	const at = "/stick"
	if err := errors.Join(l.Apply(mount.Mkdir{Path: at, Mode: 0o755}),
		l.Apply(mount.Mount{Type: fsType, Source: stick, Target: at, Data: options})); err != nil {
		return err
	}
	if err := l.ProbeUpper(ctx, at); err == nil || !strings.Contains(err.Error(), "upper on "+fsType+" cannot") {
		return fmt.Errorf("%s as an upper: %w", fsType, err)
	}
	spec := stage.FileSpec{Name: "state.img", Label: "STICK", Size: 32 * mib, Max: 160 * mib}
	for want := int64(32); want <= 160; want += 64 {
		dev, mounted, undo, err := l.StateFile(ctx, stage.BaseDir, at, spec)
		if err != nil {
			return err
		}
		info, err := os.Stat(at + "/state.img")
		if err != nil || info.Size() != want*mib {
			return errors.Join(err, fmt.Errorf("the file has %d MiB, want %d", info.Size()/mib, want))
		}
		err = l.with(dev, "ext4", func() error {
			if _, err := l.GrowFileSystem(mountpoint); err != nil {
				return err
			}
			if err := l.ProbeUpper(ctx, mountpoint); err != nil {
				return err
			}
			var st unix.Statfs_t
			if err := unix.Statfs(mountpoint, &st); err != nil {
				return err
			}
			fill := int64(st.Bavail)*st.Bsize - int64(st.Blocks)*st.Bsize/10
			return os.WriteFile(fmt.Sprintf("%s/%d", mountpoint, want), bytes.Repeat([]byte{1}, int(fill)), 0o600)
		})
		if err := errors.Join(err, mounted(), undo()); err != nil {
			return err
		}
	}
	return l.Apply(mount.Unmount{Target: at})
}

func (l *lab) encrypt(ctx context.Context, device string, how stage.UnlockSpec) error {
	d, err := l.StateDevice(ctx, boot.DeviceRef{Kind: boot.ByPath, Value: device})
	if err != nil || !d.Empty {
		return fmt.Errorf("%+v %w", d, err)
	}
	mapped, undo, err := l.EncryptNew(ctx, stage.BaseDir, device, how)
	if err != nil {
		return err
	}
	if d, err := l.LookAt(mapped); err != nil || !d.Empty {
		return fmt.Errorf("what it yields: %+v %w", d, err)
	}
	if err := l.Format(ctx, stage.BaseDir, mapped, "ext4", "SECRET"); err != nil {
		return err
	}
	if err := errors.Join(l.with(mapped, "ext4", leave), undo()); err != nil {
		return err
	}
	if d, err := l.StateDevice(ctx, boot.DeviceRef{Kind: boot.ByPath, Value: device}); err != nil || d.FileSystem != "crypto_LUKS" {
		return fmt.Errorf("afterwards: %+v %w", d, err)
	}
	if _, _, err := l.EncryptNew(ctx, stage.BaseDir, device, key); !errors.Is(err, stage.ErrForeign) {
		return fmt.Errorf("a second time: %w", err)
	}
	return nil
}

// open is a later boot.
func (l *lab) open() error {
	for device, how := range map[string]stage.UnlockSpec{byKey: key, byTPMAndKey: tpmKey, byTPM: tpm, byPerson: person} {
		l.step("unlock "+how.Name, func(ctx context.Context) error { return l.unlock(ctx, device, how) })
	}
	l.step("a random key forgets", func(ctx context.Context) error {
		mapped, undo, err := l.Unlock(ctx, stage.BaseDir, byNobody, nobody)
		if err != nil {
			return err
		}
		if d, err := l.LookAt(mapped); err != nil || !d.Empty {
			return fmt.Errorf("%+v %w", d, err)
		}
		return undo()
	})
	l.step("a random key destroys nothing else", func(ctx context.Context) error {
		for _, device := range []string{byKey, keyDisk, stick} {
			if _, _, err := l.Unlock(ctx, stage.BaseDir, device, nobody); !errors.Is(err, stage.ErrForeign) {
				return fmt.Errorf("%s: %w", device, err)
			}
		}
		return nil
	})
	return nil
}

func (l *lab) unlock(ctx context.Context, device string, how stage.UnlockSpec) error {
	mapped, undo, err := l.Unlock(ctx, stage.BaseDir, device, how)
	if err != nil {
		return err
	}
	c, err := l.Check(ctx, stage.BaseDir, mapped, "ext4", stage.CheckSpec{})
	if err != nil || c.Why != "" {
		return fmt.Errorf("%+v %w", c, err)
	}
	return errors.Join(l.with(mapped, "ext4", found), undo())
}

// other is a boot with another TPM.
func (l *lab) other() error {
	l.step("the key file opens what this TPM does not", func(ctx context.Context) error { return l.unlock(ctx, byTPMAndKey, tpmKey) })
	l.step("this TPM opens nothing", func(ctx context.Context) error {
		if _, _, err := l.Unlock(ctx, stage.BaseDir, byTPM, tpm); !errors.Is(err, stage.ErrLocked) {
			return fmt.Errorf("unlocked with another TPM: %w", err)
		}
		return nil
	})
	l.step("a wrong passphrase opens nothing", func(ctx context.Context) error {
		if _, _, err := l.Unlock(ctx, stage.BaseDir, byPerson, person); !errors.Is(err, stage.ErrLocked) || !strings.Contains(err.Error(), "3 passphrases") {
			return fmt.Errorf("unlocked with a wrong passphrase: %w", err)
		}
		return nil
	})
	return nil
}
