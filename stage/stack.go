package stage

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"veneer/boot"
	"veneer/images"
	"veneer/overlay"
	"veneer/overlay/mount"
	"veneer/overlay/rule"
)

// attachedImage is an image with its block device, not yet mounted.
type attachedImage struct {
	images.Image
	device  string
	mounted func() error
}

func attach(r *Runner, m Machine, set *Set) (_ []attachedImage, err error) {
	man, unverified := set.Manifest, set.Unverified
	modules := []string{"loop"}
	if !unverified {
		modules = append(modules, "dm_verity")
	}
	if err := m.Modules(modules...); err != nil {
		return nil, err
	}
	a, err := m.Attacher(!unverified)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	attached, undo := make([]attachedImage, len(man.Images)), make([]func() error, len(man.Images))
	defer r.onUndo(undo)
	err = each(r.workers(), len(man.Images), func(i int) error {
		img := man.Images[i]
		device, mounted, close, err := a.Attach(set.File(img), img, man.Corruption)
		if err != nil {
			return fmt.Errorf("%s %q: %w", img.Role, img.Name, err)
		}
		r.Detailf("%s %q is %s", img.Role, img.Name, device)
		attached[i], undo[i] = attachedImage{img, device, mounted}, close
		return nil
	})
	if err != nil {
		return nil, err
	}
	r.Record.Verified.Images = !unverified
	return attached, nil
}

// mountImages mounts each image where the running system can see it and returns the directories, bottom first.
func mountImages(r *Runner, m Machine, attached []attachedImage) ([]string, error) {
	lowers, undo := make([]string, len(attached)), make([]func() error, len(attached))
	for i, img := range attached {
		lowers[i] = path.Join(LayersDir, img.ID)
		if img.Role == images.RoleBase {
			lowers[i] = BaseDir
		}
		if err := m.Modules(img.FileSystem); err != nil {
			return nil, fmt.Errorf("%s %q: %w", img.Role, img.Name, err)
		}
	}
	defer r.onUndo(undo)
	err := each(r.workers(), len(attached), func(i int) error {
		img := attached[i]
		fail := func(err error) error { return fmt.Errorf("%s %q: %w", img.Role, img.Name, err) }
		dir := mount.Mkdir{Path: lowers[i], Mode: 0o755}
		fs := mount.Mount{Type: img.FileSystem, Source: img.device, Target: lowers[i], Flags: mount.ReadOnly | mount.NoAtime}
		for _, op := range []mount.Op{dir, fs} {
			r.Detailf("%s", op)
			if err := m.Apply(op); err != nil {
				return fail(err)
			}
		}
		undo[i] = func() error { return m.Apply(fs.Undo()) }
		if err := img.mounted(); err != nil {
			return fail(err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, img := range attached {
		r.Record.Images = append(r.Record.Images, Attached{img.Role, img.Name, img.ID, img.FileSystem, img.Size, img.device, lowers[i]})
	}
	return lowers, nil
}

// usualRoot stacks what is writable over the images.
func usualRoot(ctx context.Context, r *Runner, m Machine, b bootBase, man images.Manifest) (string, error) {
	p, err := policyOf(b.env.Config, man)
	if err != nil {
		return "", &StepError{StepStackRoot, err}
	}
	if r.OnFail == boot.Ephemeral && p.missing == boot.MissingFail {
		p.missing = boot.MissingEphemeral
	}
	// Memory that nobody needs is not asked for.
	made := int64(0)
	memory := func() error {
		if made > 0 {
			return nil
		}
		r.OnUndo(func() error { made = 0; return nil })
		made, err = makeMemory(r, m, p.upper, b.env.RAM)
		return err
	}
	build := func(k kept) (string, error) {
		dir, err := Do(ctx, r, StepStackRoot, func(context.Context) (string, error) {
			if p.upper.Kind == boot.UpperTmpfs || slices.ContainsFunc(k.rules, func(e rule.Effective) bool { return e.Action == rule.Ephemeral }) {
				if err := memory(); err != nil {
					return "", err
				}
			}
			return stack(r, m, b, p.upper, made)
		})
		if err != nil || len(k.places) == 0 {
			return dir, err
		}
		_, err = Do(ctx, r, StepRules, func(ctx context.Context) (struct{}, error) { return struct{}{}, applyRules(ctx, r, m, k, p.upper.Kind) })
		return dir, err
	}
	if p.place.Kind != boot.NoState {
		return keepState(ctx, r, m, b, p, memory, build)
	}
	r.Record.State = State{Kind: StateNone}
	k := kept{rules: rule.Ordered(p.rules)}
	if k.places, err = placesOf(m, b.lowers, k.rules, b.base.Serial, StateMount); err != nil {
		return "", &StepError{StepStackRoot, err}
	}
	return build(k)
}

func stack(r *Runner, m Machine, b bootBase, upper boot.Upper, memory int64) (string, error) {
	if err := m.Modules("overlay"); err != nil {
		return "", err
	}
	at := UpperDir
	if upper.Kind == boot.UpperPersistent {
		at = path.Join(StateMount, rootUpper)
	}
	s := overlay.Stack{Lowers: b.lowers, Upper: upper, UpperDir: at, LinkDir: linkDir, Target: RootDir, ReadOnly: b.env.Config.ReadOnly}
	ops, err := overlay.Plan(s)
	if err != nil {
		return "", err
	}
	if err := r.Apply(m, ops...); err != nil {
		return "", err
	}
	r.Record.Upper = Upper{string(upper.Kind), memory, at}
	return s.Target, nil
}

// makeMemory makes the tmpfs for what is gone at the next boot: the upper of a volatile root, and what rules make ephemeral.
func makeMemory(r *Runner, m Machine, upper boot.Upper, ram int64) (int64, error) {
	bytes := upper.Size.Of(ram)
	if bytes > ram {
		return 0, fmt.Errorf("tmpfs upper of %s is larger than the %d MiB of RAM: it would end in the OOM killer; ask for less", upper.Size, ram>>20)
	}
	ops, err := overlay.Volatile(UpperDir, bytes)
	if err != nil {
		return 0, err
	}
	return bytes, r.Apply(m, ops...)
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
