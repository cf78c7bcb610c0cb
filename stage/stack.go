package stage

import (
	"fmt"
	"path"
	"strings"

	"veneer/boot"
	"veneer/images"
	"veneer/overlay"
	"veneer/overlay/mount"
)

// attachedImage is an image with its block device, not yet mounted.
type attachedImage struct {
	images.Image
	device  string
	mounted func() error
}

func attach(r *Runner, m Machine, store storeTree, man images.Manifest, unverified bool) ([]attachedImage, error) {
	modules := []string{"loop"}
	if !unverified {
		modules = append(modules, "dm_verity")
	}
	if err := m.Modules(modules...); err != nil {
		return nil, err
	}
	attached := make([]attachedImage, 0, len(man.Images))
	for _, img := range man.Images {
		backing := path.Join(store.dir, images.ImagePath(img.ID))
		dev, mounted, undo, err := m.Attach(backing, img, man.Corruption, !unverified)
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w", img.Role, img.Name, err)
		}
		r.OnUndo(undo)
		r.Detailf("%s %q is %s", img.Role, img.Name, dev)
		attached = append(attached, attachedImage{img, dev, mounted})
	}
	r.Record.Verified.Images = !unverified
	return attached, nil
}

// mountImages mounts each image where the running system can see it and returns the directories, bottom first.
func mountImages(r *Runner, m Machine, attached []attachedImage) ([]string, error) {
	lowers := make([]string, 0, len(attached))
	for _, img := range attached {
		target := path.Join(LayersDir, img.ID)
		if img.Role == images.RoleBase {
			target = BaseDir
		}
		fail := func(err error) ([]string, error) { return nil, fmt.Errorf("%s %q: %w", img.Role, img.Name, err) }
		if err := m.Modules(img.FileSystem); err != nil {
			return fail(err)
		}
		err := r.apply(m, mount.Mkdir{Path: target, Mode: 0o755},
			mount.Mount{Type: img.FileSystem, Source: img.device, Target: target, Flags: mount.ReadOnly | mount.NoAtime})
		if err != nil {
			return fail(err)
		}
		if err := img.mounted(); err != nil {
			return fail(err)
		}
		lowers = append(lowers, target)
		r.Record.Images = append(r.Record.Images, Attached{img.Role, img.Name, img.ID, img.FileSystem, img.Size, img.device, target})
	}
	return lowers, nil
}

func stack(r *Runner, m Machine, lowers []string, policy images.Root, env Env) (string, error) {
	upper, err := chooseUpper(env.Config.Upper, policy)
	if err != nil {
		return "", err
	}
	if err := m.Modules("overlay"); err != nil {
		return "", err
	}
	bytes := upper.Size.Of(env.RAM)
	s := overlay.Stack{Lowers: lowers, Upper: upper, UpperDir: UpperDir, LinkDir: linkDir,
		Target: RootDir, ReadOnly: env.Config.ReadOnly}
	if bytes > env.RAM {
		return "", fmt.Errorf("tmpfs upper of %s is larger than the %d MiB of RAM: it would end in the OOM killer; ask for less", upper.Size, env.RAM>>20)
	}
	memory, err := overlay.Volatile(UpperDir, bytes)
	if err != nil {
		return "", err
	}
	ops, err := overlay.Plan(s)
	if err != nil {
		return "", err
	}
	ops = append(memory, ops...)
	if err := r.apply(m, ops...); err != nil {
		return "", err
	}
	r.Record.Upper = Upper{string(upper.Kind), bytes, UpperDir}
	return s.Target, nil
}

// chooseUpper is the command line's upper where it names one, else the manifest's; a size is looked for in the same order.
func chooseUpper(asked boot.Upper, policy images.Root) (boot.Upper, error) {
	spec := policy.Upper
	if policy.Size != "" {
		spec += ":size=" + policy.Size
	}
	upper := boot.Upper{Kind: boot.UpperTmpfs}
	if strings.TrimSpace(spec) != "" {
		var err error
		if upper, err = boot.ParseUpper(spec); err != nil {
			return upper, fmt.Errorf("root policy of the manifest: %w", err)
		}
	}
	if asked.Kind != "" {
		upper.Kind = asked.Kind
	}
	if asked.Size != (boot.Size{}) {
		upper.Size = asked.Size
	}
	if upper.Size == (boot.Size{}) {
		upper.Size = defaultUpperSize
	}
	return upper, nil
}
