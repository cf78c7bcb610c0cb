package live

// Before: the drivers are loaded, and nothing is mounted.
// After: the medium of others is mounted read-only at stage.StoreDir, and a set names the images on it.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"veneer/boot"
	"veneer/images"
	"veneer/overlay/mount"
	"veneer/stage"
)

// containerDir is where an image is mounted that holds the image of the root in a file.
const containerDir = stage.MountsDir + "/container"

// nested is where dracut's images hold that file.
var nested = []string{"LiveOS/rootfs.img", "LiveOS/ext3fs.img"}

// foreign is a medium of others that is being booted.
type foreign struct {
	boot.Foreign
	r      *stage.Runner
	m      stage.Machine
	env    *stage.Env
	device stage.Device
	files  fs.FS
	names  []string // of the images on the medium, the lowest first
	base   string   // the ID of all of them together
	images []images.Image
}

// machines are the kernel's names of architectures, as uname prints them.
var machines = map[string]string{"amd64": "x86_64", "arm64": "aarch64", "": "x86_64"}

// findForeign finds the set on a medium of others.
func findForeign(ctx, waiting context.Context, r *stage.Runner, m stage.Machine, env *stage.Env) (*stage.Set, error) {
	f := &foreign{Foreign: *env.Config.Foreign, r: r, m: m, env: env}
	if _, err := stage.Do(waiting, r, stage.StepFindMedium, func(ctx context.Context) (struct{}, error) { return struct{}{}, f.find(ctx) }); err != nil {
		return nil, err
	}
	// Reading all of a medium takes as long as it takes.
	defer func(bound time.Duration) { r.Bound = bound }(r.Bound)
	r.Bound = max(r.Bound, stage.Patient)
	return stage.Do(ctx, r, stage.StepCheckManifest, func(ctx context.Context) (*stage.Set, error) { return f.set(ctx) })
}

// find mounts the medium: the device that the line names, or the first that has the images, or an ISO in a file of either.
func (f *foreign) find(ctx context.Context) (err error) {
	switch {
	case f.env.Config.Medium.Path != "":
		return f.findISO(ctx)
	case f.Device.Kind != "":
		if f.device, err = f.m.Device(ctx, f.Device); err != nil {
			return err
		}
		return f.open(f.device)
	}
	return f.search(ctx, func(dev stage.Device) error {
		f.device = dev
		return f.open(dev)
	})
}

// search tries each device until one is the medium.
func (f *foreign) search(ctx context.Context, open func(stage.Device) error) error {
	scout, ok := f.m.(stage.Scout)
	if !ok {
		return errors.New("nothing says which device the medium is")
	}
	seen := map[string]bool{}
	var refused []string
	for {
		dev, err := scout.NextDevice(ctx, seen)
		if err != nil {
			if len(refused) > 0 {
				err = fmt.Errorf("%w; looked at: %s", err, strings.Join(refused, "; "))
			}
			return err
		}
		seen[dev.Path] = true
		if _, _, _, known := stage.FileSystemOptions(dev.FileSystem); !known {
			refused = append(refused, dev.Path+": no medium is on "+dev.FileSystem)
			continue
		}
		err = f.r.Try(func() error { return open(dev) })
		if err == nil {
			return nil
		}
		f.r.Detailf("%s: %v", dev.Path, err)
		refused = append(refused, fmt.Sprintf("%s: %v", dev.Path, err))
		if !errors.Is(err, errNotTheMedium) && !mountFailed(err) {
			return err // it is the medium, and spoiled: another would be taken for it
		}
	}
}

// mountFailed reports whether a device could not even be mounted.
func mountFailed(err error) bool {
	var perr *fs.PathError
	return errors.As(err, &perr) && perr.Path == stage.StoreDir
}

// open mounts a device and looks whether it is the medium.
func (f *foreign) open(dev stage.Device) (err error) {
	if f.files, err = stage.MountMedium(f.r, f.m, f.Device, dev); err != nil {
		return err
	}
	if f.Marker != "" && f.Device.Kind == "" && !regular(f.files, f.Marker) {
		return fmt.Errorf("%w: it has no %s", errNotTheMedium, f.Marker)
	}
	if f.names, err = imagesOf(f.files, f.Foreign, machines[f.env.Arch]); err != nil {
		return err
	}
	if len(f.names) > maxImages {
		return fmt.Errorf("%d images are more than %d", len(f.names), maxImages)
	}
	return nil
}

// set describes the images on the medium as a set, after deciding whether they may be booted at all.
func (f *foreign) set(ctx context.Context) (*stage.Set, error) {
	pins, err := readPins(f.m)
	if err != nil {
		return nil, err
	}
	if err := f.allowed(ctx, pins); err != nil {
		return nil, err
	}
	backing := map[string]string{}
	ids := ""
	for _, name := range f.names {
		found, err := inspect(f.files, name)
		if err != nil {
			return nil, err
		}
		ids += found.id
		img := images.Image{Role: images.RoleLayer, Name: path.Base(name), ID: found.id, Size: found.size, FileSystem: found.fileSystem}
		at := path.Join(stage.StoreDir, name)
		if f.Dialect == boot.Dracut && found.fileSystem != "ext4" {
			if img, at, err = f.unwrap(img, at); err != nil {
				return nil, err
			}
		}
		backing[img.ID] = at
		f.images = append(f.images, img)
	}
	f.images[0].Role = images.RoleBase
	f.base = f.images[0].ID
	if len(f.images) > 1 {
		f.base = sum(ids)
	}
	man := images.Manifest{Format: images.Format, Name: f.name(), Version: "", Architecture: f.env.Arch, Corruption: images.EIO, Images: f.images,
		Kernel: images.Kernel{Release: f.r.Record.Kernel}, Root: images.Root{Upper: string(boot.UpperTmpfs)}}
	rec := &f.r.Record
	rec.Deployment = stage.Deployment{Serial: "1", Why: "a medium of " + string(f.Dialect), Name: man.Name, Version: man.Version, Architecture: man.Architecture, Manifest: f.base}
	rec.Verified.Corruption = man.Corruption
	return &stage.Set{Manifest: man, Serial: "1", Device: f.device, Dir: stage.StoreDir, Unverified: true, Root: f.root,
		Backing: func(img images.Image) string { return backing[img.ID] }}, nil
}

// unwrap mounts an image of dracut's, and where the image of the root is a file in it, that is the image.
func (f *foreign) unwrap(outer images.Image, at string) (images.Image, string, error) {
	fail := func(err error) (images.Image, string, error) { return outer, at, fmt.Errorf("image %s: %w", at, err) }
	if err := f.m.Modules("loop", outer.FileSystem); err != nil {
		return fail(err)
	}
	a, err := f.m.Attacher(false)
	if err != nil {
		return fail(err)
	}
	inner, file := outer, at
	look := func() error {
		device, mounted, detach, err := a.Attach(at, outer, images.EIO)
		if err != nil {
			return err
		}
		f.r.OnUndo(detach)
		if err := f.r.Apply(f.m, mount.Mkdir{Path: containerDir, Mode: 0o755}, mount.Mount{Type: outer.FileSystem, Source: device, Target: containerDir,
			Flags: mount.ReadOnly | mount.NoSuid | mount.NoDev | mount.NoExec | mount.NoAtime}); err != nil {
			return err
		}
		if err := mounted(); err != nil {
			return err
		}
		files := f.m.Files(containerDir)
		name, err := first(files, nested...)
		if err != nil {
			return err
		}
		found, err := inspect(files, name[0])
		if err != nil {
			return err
		}
		inner.FileSystem, inner.Size, inner.Name = found.fileSystem, found.size, path.Base(name[0])
		file = path.Join(containerDir, name[0])
		return nil
	}
	err = f.r.Try(look)
	if errors.Is(err, errNotTheMedium) {
		inner, file, err = outer, at, nil // the root itself is in it
	}
	if err = errors.Join(err, a.Close()); err != nil {
		return fail(err)
	}
	return inner, file, nil
}

// name is what the medium calls itself, for people.
func (f *foreign) name() string {
	text, err := readSmall(f.files, ".disk/info", 4096)
	if err != nil || len(text) == 0 {
		return string(f.Dialect) + " medium"
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.ToValidUTF8(strings.TrimSpace(line), "?")
}
