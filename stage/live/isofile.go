package live

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"veneer/images"
	"veneer/overlay/mount"
	"veneer/stage"
)

// isoDir is where the file system is mounted that has others' medium as an ISO in a file.
const isoDir = stage.MountsDir + "/iso-carrier"

// findISO finds others' medium in the ISO that veneer.medium= names: on its device, or on whichever has the file.
func (f *foreign) findISO(ctx context.Context) error {
	ref := f.env.Config.Medium
	if ref.Device.Kind != "" {
		dev, err := f.m.Device(ctx, ref.Device)
		if err != nil {
			return err
		}
		return f.openISO(dev, ref.Path)
	}
	return f.search(ctx, func(dev stage.Device) error { return f.openISO(dev, ref.Path) })
}

// openISO mounts a device, and the ISO in a file of it as the medium.
func (f *foreign) openISO(dev stage.Device, file string) error {
	if err := f.mountAt(dev, isoDir, mount.ReadOnly|mount.NoSuid|mount.NoDev|mount.NoExec); err != nil {
		return fmt.Errorf("%w: %w", errNotTheMedium, err)
	}
	name := strings.TrimPrefix(file, "/")
	info, err := fs.Stat(f.m.Files(isoDir), name)
	if err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("%w: it has no file %s", errNotTheMedium, file)
	}
	if err := f.m.Modules("loop"); err != nil {
		return err
	}
	a, err := f.m.Attacher(false)
	if err != nil {
		return err
	}
	loop, mounted, undo, err := a.Attach(path.Join(isoDir, name), images.Image{Size: info.Size()}, images.EIO)
	if err := errors.Join(err, a.Close()); err != nil {
		return err
	}
	f.r.OnUndo(undo)
	f.device = stage.Device{Path: loop, FileSystem: "iso9660", ReadOnly: true, Label: f.Device.Value}
	return errors.Join(f.open(f.device), mounted())
}
