package live

// Before: nothing of the medium is mounted.
// After: the file system that the file lies on is mounted read-only on MediumDir, the file is a loop device, and the store on that is
// mounted as a store on a disk is.

import (
	"context"
	"fmt"
	"path"

	"veneer/boot"
	"veneer/overlay/mount"
	"veneer/stage"
)

// MediumDir is where the file system is mounted on which the medium is a file.
const MediumDir = stage.MountsDir + "/medium"

// searcher is a machine on which a file can be looked for.
type searcher interface {
	// Search calls has for the block devices that hold a file system, removable ones first, until it is nil for one of them, and
	// waits for more until ctx ends. Two of one kind for which it is nil are refused. The error lists each device with has's.
	Search(ctx context.Context, what string, has func(stage.Device) error) (stage.Device, error)

	// Content tells what a block device holds that Device does not know: a loop device.
	Content(device string) (stage.Device, error)
}

// fileSystems are those on which a medium may be a file: modules, options, and what keeps the kernel from replaying a journal. A
// medium is never written to, not even to mend it.
var fileSystems = map[string]struct {
	driver  string // "": as the file system is called
	modules []string
	options string
}{
	"ext4":    {"", []string{"ext4"}, "noload"},
	"btrfs":   {"", []string{"btrfs"}, "rescue=nologreplay"},
	"xfs":     {"", []string{"xfs"}, "norecovery"},
	"vfat":    {"", []string{"vfat", "nls_cp437", "nls_ascii"}, "codepage=437,iocharset=ascii,utf8=1"},
	"exfat":   {"", []string{"exfat"}, ""},
	"ntfs":    {"ntfs3", []string{"ntfs3"}, ""},
	"iso9660": {"", []string{"isofs"}, ""},
}

func (v Variant) onMedium(ctx, waiting context.Context, r *stage.Runner, m stage.Machine, env *stage.Env) (*stage.Set, error) {
	ref := env.Config.Medium
	medium := stage.Medium{File: ref.Path}
	device, err := stage.Do(waiting, r, stage.StepFindMedium, func(ctx context.Context) (stage.Device, error) {
		d, err := v.findMedium(ctx, m, ref)
		if err == nil {
			err = apply(r, m, mediumMount(d)...)
		}
		if err != nil {
			return stage.Device{}, err
		}
		medium.Device, medium.FileSystem = d.Path, d.FileSystem
		return v.attach(r, m, path.Join(MediumDir, ref.Path))
	})
	if err != nil {
		return nil, err
	}
	set, err := stage.OpenStore(ctx, r, m, env, device)
	r.Record.Store.Reference, r.Record.Store.Medium = ref.String(), medium
	return set, err
}

// findMedium finds the device that has the file.
func (v Variant) findMedium(ctx context.Context, m stage.Machine, ref boot.MediumRef) (stage.Device, error) {
	if ref.Device.Kind == "" {
		return m.(searcher).Search(ctx, ref.Path, func(d stage.Device) error { return v.has(m, d, ref.Path) })
	}
	d, err := m.Device(ctx, ref.Device)
	if err == nil {
		err = v.has(m, d, ref.Path)
		if err != nil {
			err = fmt.Errorf("%s (%s): %w", d.Path, d.FileSystem, err)
		}
	}
	return d, err
}

// has reports why a device does not have the file, if it does not.
func (v Variant) has(m stage.Machine, d stage.Device, file string) (err error) {
	f, ok := fileSystems[d.FileSystem]
	if !ok {
		return fmt.Errorf("on %s no file is looked for", d.FileSystem)
	}
	if err := m.Modules(f.modules...); err != nil {
		return err
	}
	ops := mediumMount(d)
	for _, op := range ops {
		if err := m.Apply(op); err != nil {
			return err
		}
	}
	err = v.System.Regular(path.Join(MediumDir, file))
	if uerr := m.Apply(mount.Unmount{Target: MediumDir}); err == nil {
		err = uerr
	}
	return err
}

func mediumMount(d stage.Device) []mount.Op {
	f := fileSystems[d.FileSystem]
	driver := f.driver
	if driver == "" {
		driver = d.FileSystem
	}
	return []mount.Op{mount.Mkdir{Path: MediumDir, Mode: 0o755}, mount.Mount{Type: driver, Source: d.Path, Target: MediumDir, Data: f.options,
		Flags: mount.ReadOnly | mount.NoSuid | mount.NoDev | mount.NoExec | mount.NoAtime}}
}

// attach makes a block device of the file and looks at it.
func (v Variant) attach(r *stage.Runner, m stage.Machine, file string) (stage.Device, error) {
	if err := m.Modules("loop"); err != nil {
		return stage.Device{}, err
	}
	loop, undo, err := v.System.AttachFile(file)
	if err != nil {
		return stage.Device{}, err
	}
	r.OnUndo(undo)
	r.Detailf("losetup --read-only --direct-io=on %s %s", loop, file)
	return m.(searcher).Content(loop)
}
