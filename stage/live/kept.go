package live

// Before: the images of others' medium are mounted, and nothing is writable.
// After: what their dialect keeps is mounted below persistenceDir in the layout that it has, and is part of the merged root.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"veneer/boot"
	"veneer/boot/dialect/persistence"
	"veneer/images"
	"veneer/overlay/mount"
	"veneer/stage"
)

const (
	// persistenceDir is where what is kept is mounted, by the kernel's name of its device.
	persistenceDir = stage.MountsDir + "/persistence"
	// carrierDir is where a file system is mounted that has what is kept in a file, and whatever is looked at for one.
	carrierDir = stage.MountsDir + "/persistence-carrier"
	// upperDir has the names fs and work of every upper that is kept, for whoever looks it up by the record.
	upperDir = stage.MountsDir + "/persistence-upper"
)

// lateKept is how long a boot looks whether another device brings what is kept, where nobody told it to wait.
const lateKept = 5 * time.Second

// volume is a file system, or a directory of one, that holds what is kept.
type volume struct {
	name   string // the kernel's name of its device
	device stage.Device
	at     string // where its root is mounted
	file   string // it is the file system in this file of the device
	dir    string // it is this directory of the device
}

// part is one thing that is kept.
type part struct {
	persistence.Mount
	from        volume
	upper, work string // of a union: the names of its directories in the source
}

func (p part) source() string { return path.Join(p.from.at, p.Source) }

// keptRoot makes a root of which something is kept. Where that is not there, or cannot be used, and nobody said to wait or to fail,
// the root is in memory, and everybody is told.
func (f *foreign) keptRoot(ctx context.Context, lowers []string) (dir string, err error) {
	missing := f.env.Config.Missing
	if missing == boot.MissingWait {
		defer func(bound time.Duration) { f.r.Bound = bound }(f.r.Bound)
		f.r.Bound = 100 * 365 * 24 * time.Hour
	}
	err = f.r.Try(func() (err error) {
		vols, err := stage.Do(ctx, f.r, stage.StepFindState, func(ctx context.Context) ([]volume, error) { return f.findKept(ctx, missing) })
		if err != nil {
			return err
		}
		parts, err := stage.Do(ctx, f.r, stage.StepPrepareState, func(context.Context) ([]part, error) { return f.prepareKept(vols) })
		if err != nil {
			return err
		}
		dir, err = f.stackKept(ctx, lowers, parts)
		return err
	})
	if err == nil || missing == boot.MissingFail || missing == boot.MissingWait {
		return dir, err
	}
	var step *stage.StepError
	why := err.Error()
	if errors.As(err, &step) {
		why = step.Err.Error()
	}
	f.r.Record.Rules = nil
	f.r.Record.State = stage.State{Kind: stage.StateEphemeral, Reference: f.reference(), Why: why}
	f.r.Degrade("nothing is kept: what is written is in memory, and gone at the next boot", why)
	return f.volatileRoot(ctx, lowers, nil)
}

// reference is what is kept as it was asked for.
func (f *foreign) reference() string {
	if f.Kept.Device.Kind != "" {
		return f.Kept.Device.String()
	}
	return strings.Join(f.Kept.Labels, " or ")
}

// findKept finds what is kept, and mounts it: the device that the line names, or everything that carries one of the labels, as
// live-boot takes it; casper takes the first.
func (f *foreign) findKept(ctx context.Context, missing boot.Missing) ([]volume, error) {
	looking := ctx
	if missing != boot.MissingWait {
		wait := lateKept
		if missing == boot.MissingFail || f.Kept.Device.Kind != "" {
			wait = f.env.Config.Wait
		}
		late, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		looking = late
	}
	if f.Kept.Device.Kind != "" {
		dev, err := f.m.Device(looking, f.Kept.Device)
		if err != nil {
			return nil, err
		}
		v, err := f.mountVolume(dev)
		return []volume{v}, err
	}
	scout, ok := f.m.(stage.Scout)
	if !ok {
		return nil, errors.New("nothing says which device it is on")
	}
	var found []volume
	seen := map[string]bool{}
	for {
		dev, err := scout.NextDevice(looking, seen)
		if err != nil {
			if len(found) > 0 {
				return found, nil
			}
			return nil, fmt.Errorf("%s: %w", f.reference(), err)
		}
		seen[dev.Path] = true
		v, yes, err := f.carries(dev)
		if err != nil {
			return nil, err
		}
		if !yes {
			continue
		}
		if found = append(found, v); f.Dialect == boot.Casper {
			return found, nil
		}
		now, cancel := context.WithCancel(ctx) // the others that are there already, and no more waiting
		cancel()
		looking = now
	}
}

// stores reports whether what is kept may lie in this kind of place.
func (f *foreign) stores(kind string) bool {
	return len(f.Kept.Storage) == 0 || slices.Contains(f.Kept.Storage, kind)
}

// carries looks whether a device carries one of the labels, and mounts what does.
func (f *foreign) carries(dev stage.Device) (volume, bool, error) {
	if f.stores("filesystem") && (slices.Contains(f.Kept.Labels, dev.Label) || slices.Contains(f.Kept.Labels, dev.PartLabel)) {
		v, err := f.mountVolume(dev)
		return v, err == nil, err
	}
	if _, _, _, known := stage.FileSystemOptions(dev.FileSystem); !known || dev.FileSystem == "squashfs" || !f.stores("file") && !f.stores("directory") {
		return volume{}, false, nil
	}
	// A file or a directory of that name. The medium is mounted already.
	var v volume
	yes := false
	err := f.r.Try(func() error {
		at := stage.StoreDir
		if dev.Path != f.device.Path {
			at = carrierDir
			if err := f.mountAt(dev, at, mount.ReadOnly); err != nil {
				f.r.Detailf("%s: %v", dev.Path, err)
				return errNotTheMedium
			}
		}
		for _, label := range f.Kept.Labels {
			name := path.Join(f.Kept.Path, label)
			info, err := fs.Stat(f.m.Files(at), name)
			switch {
			case err != nil:
			case info.Mode().IsRegular() && f.stores("file"):
				v, yes = volume{name: path.Base(dev.Path), device: dev, file: name}, true
			case info.IsDir() && f.stores("directory") && f.Dialect == boot.LiveBoot:
				v, yes = volume{name: path.Base(dev.Path), device: dev, dir: name}, true
			}
		}
		return errNotTheMedium // looked at; it is mounted anew for writing
	})
	if !errors.Is(err, errNotTheMedium) || !yes {
		return volume{}, false, nil
	}
	if v.dir != "" {
		v.at = path.Join(persistenceDir, v.name)
		err = f.mountKept(dev, v.at)
		v.at = path.Join(v.at, v.dir)
		return v, err == nil, err
	}
	if err := f.mountKept(dev, carrierDir); err != nil {
		return volume{}, false, err
	}
	v.at = path.Join(persistenceDir, v.name+"-"+path.Base(v.file))
	err = f.mountFile(path.Join(carrierDir, v.file), v.at)
	return v, err == nil, err
}

func (f *foreign) mountVolume(dev stage.Device) (volume, error) {
	v := volume{name: path.Base(dev.Path), device: dev, at: path.Join(persistenceDir, path.Base(dev.Path))}
	return v, f.mountKept(dev, v.at)
}

// mountKept mounts a device to be written to, unless what is kept is only looked at.
func (f *foreign) mountKept(dev stage.Device, at string) error {
	if dev.FileSystem == stage.LUKS {
		return fmt.Errorf("%s is encrypted, and cryptsetup of our tools layer is not on others' media", dev.Path)
	}
	if f.Kept.ReadOnly {
		return f.mountAt(dev, at, mount.ReadOnly)
	}
	if dev.ReadOnly {
		return fmt.Errorf("%s is write-protected; take the protection off, or have it looked at only: persistence-read-only, rd.overlay.readonly", dev.Path)
	}
	if dev.Path != f.device.Path {
		return f.mountAt(dev, at, 0)
	}
	// The medium itself, mounted read-only: a second mount for writing is refused (EBUSY), so the first is made one, is seen here with
	// flags of its own, and stays read-only where it is the medium.
	const plain = mount.NoSuid | mount.NoDev | mount.NoExec | mount.NoAtime
	return f.r.Apply(f.m, mount.Writable{Target: stage.StoreDir}, mount.Mkdir{Path: at, Mode: 0o755}, mount.Bind{Source: stage.StoreDir, Target: at},
		mount.Restrict{Target: at, Flags: mount.NoAtime}, mount.Restrict{Target: stage.StoreDir, Flags: plain | mount.ReadOnly})
}

func (f *foreign) mountAt(dev stage.Device, at string, flags mount.Flags) error {
	modules, options, noReplay, known := stage.FileSystemOptions(dev.FileSystem)
	if !known {
		return fmt.Errorf("%s: nothing is kept on %s; use ext4", dev.Path, dev.FileSystem)
	}
	if err := f.m.Modules(modules...); err != nil {
		return err
	}
	if flags&mount.ReadOnly != 0 && dev.ReadOnly && noReplay != "" {
		options = noReplay
	}
	return f.r.Apply(f.m, mount.Mkdir{Path: at, Mode: 0o755}, mount.Mount{Type: dev.FileSystem, Source: dev.Path, Target: at, Flags: flags | mount.NoAtime, Data: options})
}

// mountFile mounts the file system in a file.
func (f *foreign) mountFile(file, at string) error {
	found, err := inspect(f.m.Files(path.Dir(file)), path.Base(file))
	if err != nil {
		return err
	}
	if found.fileSystem != "ext4" {
		return fmt.Errorf("%s holds %s, which nothing can be kept on; make it with mkfs.ext4", file, found.fileSystem)
	}
	if err := f.m.Modules("loop", "ext4"); err != nil {
		return err
	}
	if f.env.Paper {
		return f.r.Apply(f.m, mount.Mkdir{Path: at, Mode: 0o755}, mount.Mount{Type: "ext4", Source: file, Target: at, Data: "loop"})
	}
	flags, open := mount.Flags(0), os.O_RDWR
	if f.Kept.ReadOnly {
		flags, open = mount.ReadOnly, os.O_RDONLY
	}
	var d *images.Device
	if open == os.O_RDONLY {
		d, err = images.AttachFile(file)
	} else {
		var opened *os.File
		if opened, err = os.OpenFile(file, open, 0); err != nil {
			return err
		}
		defer opened.Close()
		d, err = images.AttachWritable(opened, 0, 0)
	}
	if err != nil {
		return err
	}
	f.r.OnUndo(d.Close)
	err = f.r.Apply(f.m, mount.Mkdir{Path: at, Mode: 0o755}, mount.Mount{Type: "ext4", Source: d.Path, Target: at, Flags: flags | mount.NoAtime})
	return errors.Join(err, d.Release())
}

// prepareKept reads what is kept of which volume, and holds the stamp of each against this base.
func (f *foreign) prepareKept(vols []volume) ([]part, error) {
	var parts []part
	for _, v := range vols {
		found, err := f.partsOf(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.device.Path, err)
		}
		parts = append(parts, found...)
	}
	roots := 0
	for _, p := range parts {
		if p.Dest == "/" {
			roots++
		}
	}
	switch {
	case len(parts) == 0:
		return nil, fmt.Errorf("%s is there, and says of nothing that it is kept: write %s at its root, with a line such as \"/ union\"", f.reference(), persistence.Name)
	case roots > 1:
		return nil, errors.New("two that are kept each want the whole root; detach one of them")
	}
	// The volumes together, as those of one are: links last, what lies deeper later.
	slices.SortStableFunc(parts, func(a, b part) int {
		if (a.Kind == persistence.Link) != (b.Kind == persistence.Link) {
			if a.Kind == persistence.Link {
				return 1
			}
			return -1
		}
		return strings.Compare(a.Dest, b.Dest)
	})
	v := parts[0].from
	f.r.Record.State = stage.State{Kind: stage.StatePersistent, Reference: f.reference(), Device: v.device.Path, FileSystem: v.device.FileSystem,
		Dir: path.Join(v.file, v.dir), Mount: v.at, Why: "asked for in the dialect of " + string(f.Dialect)}
	return parts, f.r.Apply(f.m, mount.Symlink{Content: v.at, Path: stage.StateMount})
}

// partsOf is what a volume keeps, as its dialect lays it out.
//
//	live-boot   what persistence.conf says
//	casper      the root, in upper and work
//	dracut      the root, in LiveOS/overlay-LABEL-UUID, or the directory that was named, and ovlwork beside it
//	archiso     the root, in upperdir and workdir of persistent_LABEL/ARCHITECTURE, or of cow_directory=
func (f *foreign) partsOf(v volume) ([]part, error) {
	whole := func(source, upper, work string) []part {
		return []part{{persistence.Mount{Dest: "/", Kind: persistence.Union, Source: source}, v, upper, work}}
	}
	switch f.Dialect {
	case boot.Casper:
		return whole(".", "upper", "work"), nil
	case boot.Dracut:
		dir := f.Kept.Dir
		if dir == "" && f.device.UUID == "" && !f.env.Paper {
			return nil, errors.New("dracut calls the directory by the UUID of the medium, which is not known of an ISO in a file; name it: rd.overlay=DEVICE:/PATH")
		}
		if dir == "" {
			dir = path.Join(f.Dir, "overlay-"+f.device.Label+"-"+f.device.UUID)
		}
		if info, err := fs.Stat(f.m.Files(v.at), dir); err == nil && !info.IsDir() && !f.env.Paper {
			return nil, fmt.Errorf("/%s is not a directory: overlays in a file, and device-mapper snapshots, are not used by this version", dir)
		}
		return whole(path.Dir(dir), path.Base(dir), "ovlwork"), nil
	case boot.Archiso:
		dir := f.Kept.Dir
		if dir == "" {
			dir = path.Join("persistent_"+f.Foreign.Device.Value, machines[f.env.Arch])
		}
		return whole(dir, "upperdir", "workdir"), nil
	}
	text, err := readSmall(f.m.Files(v.at), persistence.Name, persistence.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		f.r.Degrade("nothing on "+v.device.Path+" is kept", "it is labelled for it, and has no "+persistence.Name+"; write one at its root, with a line such as \"/ union\"")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	mounts, skipped, err := persistence.Parse(text)
	if err != nil {
		return nil, err
	}
	if len(skipped) > 0 {
		f.r.Degrade("not all that "+persistence.Name+" names is kept", strings.Join(skipped, "; "))
	}
	parts := make([]part, len(mounts))
	for i, m := range mounts {
		parts[i] = part{m, v, persistence.Upper, persistence.Work}
	}
	return parts, nil
}
