package live

// Before: the images are mounted, and nothing is writable.
// After: the merged root is at stage.RootDir, and what the userland of the medium looks up has its names.

import (
	"context"
	"path"

	"veneer/boot"
	"veneer/overlay"
	"veneer/overlay/mount"
	"veneer/stage"
)

// root makes the merged root of a medium of others: the upper in memory, or where its dialect keeps it.
func (f *foreign) root(ctx context.Context, lowers []string) (string, error) {
	f.r.Record.State = stage.State{Kind: stage.StateNone}
	if f.env.Config.Reset.Word != "" {
		f.r.Degrade("a reset was not carried out", f.env.Config.Reset.Word+": nothing on others' media is emptied by this init")
	}
	if f.Kept.Asked {
		return f.keptRoot(ctx, lowers)
	}
	return f.volatileRoot(ctx, lowers, nil)
}

// volatileRoot stacks an upper in memory; what a read-only persistence has lies right below it.
func (f *foreign) volatileRoot(ctx context.Context, lowers []string, more []string) (string, error) {
	return stage.Do(ctx, f.r, stage.StepStackRoot, func(context.Context) (string, error) {
		if err := f.m.Modules("overlay"); err != nil {
			return "", err
		}
		bytes, err := stage.Memory(f.r, f.m, f.env.Config.Upper.Size, f.env.RAM)
		if err != nil {
			return "", err
		}
		ops, err := overlay.Plan(overlay.Stack{Lowers: append(append([]string{}, lowers...), more...), Upper: boot.Upper{Kind: boot.UpperTmpfs}, UpperDir: stage.UpperDir,
			LinkDir: stage.LinkDir, Target: stage.RootDir, ReadOnly: f.env.Config.ReadOnly})
		if err != nil {
			return "", err
		}
		if err := f.r.Apply(f.m, ops...); err != nil {
			return "", err
		}
		f.r.Record.Upper = stage.Upper{Kind: string(boot.UpperTmpfs), Size: bytes, Mount: stage.UpperDir}
		return stage.RootDir, f.publish(lowers)
	})
}

// link is a name that a userland looks up, and where it leads.
type link struct{ path, content string }

// links are the names in /run that the userland of the dialect looks up, beside those that every boot leaves.
func (f *foreign) links(lowers []string) []link {
	upper := f.r.Record.Upper.Mount
	switch f.Dialect {
	case boot.Dracut:
		return []link{{"/run/ovlwork", path.Join(upper, overlay.KeptWork)}, {"/run/initramfs/livedev", f.device.Path}}
	case boot.LiveBoot:
		all := []link{{"/run/live/medium", stage.StoreDir}, {"/run/live/overlay", upper}}
		for i, img := range f.images {
			all = append(all, link{"/run/live/rootfs/" + img.Name, lowers[i]})
		}
		if f.Kept.Asked {
			all = append(all, link{"/run/live/persistence", persistenceDir})
		}
		return all
	case boot.Archiso:
		return []link{{"/run/archiso/bootmnt", stage.StoreDir}, {"/run/archiso/airootfs", stage.BaseDir}, {"/run/archiso/cowspace", upper}}
	}
	return nil
}

// binds are the directories of the root in which the userland of a dialect finds the medium.
var binds = map[boot.Dialect][]link{
	boot.LiveBoot: {{"/usr/lib/live/mount", "/run/live"}},
	boot.Casper:   {{"/cdrom", stage.StoreDir}, {"/rofs", stage.BaseDir}},
}

// publish gives the medium and its parts the names by which the userland of its dialect looks them up.
func (f *foreign) publish(lowers []string) error {
	var ops []mount.Op
	made := map[string]bool{"/run": true, "/run/initramfs": true}
	for _, l := range f.links(lowers) {
		if dir := path.Dir(l.path); !made[dir] {
			made[dir] = true
			ops = append(ops, mount.Mkdir{Path: dir, Mode: 0o755})
		}
		ops = append(ops, mount.Symlink{Content: l.content, Path: l.path})
	}
	for _, b := range binds[f.Dialect] {
		if found, err := f.m.Look(lowers, path.Dir(b.path)); err != nil || found.Type != overlay.Directory {
			continue // a userland that does not look
		}
		target := path.Join(stage.RootDir, b.path)
		ops = append(ops, mount.Place{Path: target, Root: stage.RootDir}, mount.Bind{Source: b.content, Target: target, Root: stage.RootDir})
	}
	return f.r.Apply(f.m, ops...)
}
