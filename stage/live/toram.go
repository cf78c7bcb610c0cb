package live

// Before: the store is mounted and its manifest checked; no image is attached.
// After a copy: the images lie in a tmpfs of their own, which is a store with one deployment. It is mounted where the store was, and
// what the store was on is released: unless the state is in it.

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"veneer/boot"
	"veneer/images"
	"veneer/images/copyin"
	"veneer/overlay/mount"
	"veneer/stage"
)

// RAMDir is where the copy is made.
const RAMDir = stage.MountsDir + "/ram"

// slack is what the tmpfs of the copy has beside the images, for the manifest.
const slack = 1 << 20

// errNoFiles is why an installed root is not copied.
var errNoFiles = errors.New("what is booted is no image but a directory tree, which is not copied; leave out veneer.toram")

// toRAM carries out veneer.toram.
func (v Variant) toRAM(ctx context.Context, r *stage.Runner, m stage.Machine, env *stage.Env, set *stage.Set) error {
	asked := env.Config.ToRAM
	if asked == "" || asked == boot.ToRAMNo {
		return nil
	}
	_, err := stage.Do(ctx, r, stage.StepCopyImages, func(ctx context.Context) (struct{}, error) {
		done := &r.Record.Store.Copy
		done.Asked = string(asked)
		place, err := boot.Place{}, errNoFiles
		if set.Mounted == nil {
			place, err = v.room(r, env, set)
		}
		if (errors.Is(err, copyin.ErrNoRoom) || errors.Is(err, errNoFiles)) && asked == boot.ToRAMAuto {
			done.Why = err.Error()
			r.Sayf("the images stay on the medium: %v", err)
			return struct{}{}, nil
		}
		if err == nil {
			err = v.copy(ctx, r, m, set, env.Paper)
		}
		if err == nil {
			err = v.release(r, m, env, set, place)
		}
		return struct{}{}, err
	})
	return err
}

// room computes the budget, says it, and makes the upper as large as it leaves room for. A size in bytes is a promise and is kept
// whole; one that is a share of the memory may shrink: to the least of use, or, where nobody insists on the copy, to its half.
func (v Variant) room(r *stage.Runner, env *stage.Env, set *stage.Set) (boot.Place, error) {
	place, size, err := stage.Writable(env, set.Manifest)
	if err != nil {
		return place, err
	}
	available, err := v.System.Available()
	if err != nil {
		return place, err
	}
	b := copyin.Budget{Images: total(set), Upper: size.Of(env.RAM), Available: available}
	switch {
	case size.Percent == 0:
		b.Least = b.Upper
	case env.Config.ToRAM == boot.ToRAMAuto:
		b.Least = b.Upper / 2
	}
	room, err := b.Room()
	if err != nil {
		return place, err
	}
	why := fmt.Sprintf("images of %s, up to %s for the upper and %s to work with, and %s are available", copyin.MiB(b.Images), copyin.MiB(room), copyin.MiB(copyin.Floor), copyin.MiB(available))
	if room < b.Upper {
		why += fmt.Sprintf("; the upper was to get %s", copyin.MiB(b.Upper))
		env.Config.Upper.Size = boot.Size{Bytes: room}
	}
	r.Record.Store.Copy.Why = why
	r.Sayf("copying to memory: %s", why)
	return place, nil
}

func total(set *stage.Set) (sum int64) {
	for _, img := range set.Manifest.Images {
		sum += img.Size
	}
	return sum
}

// copy makes the tmpfs and copies the images and what else makes it a store.
func (v Variant) copy(ctx context.Context, r *stage.Runner, m stage.Machine, set *stage.Set, paper bool) error {
	const page = 4096
	all := total(set)
	size := all + int64(len(set.Manifest.Images))*page + slack
	if err := apply(r, m, mount.Mkdir{Path: RAMDir, Mode: 0o755}, mount.Mount{Type: "tmpfs", Source: "veneer-images", Target: RAMDir,
		Flags: mount.NoSuid | mount.NoDev | mount.NoExec | mount.NoAtime, Data: fmt.Sprintf("mode=0755,size=%d", size)},
		mount.Mkdir{Path: path.Join(RAMDir, path.Dir(images.ImagePath("x"))), Mode: 0o755}); err != nil {
		return err
	}
	meter := newMeter(all, time.Now())
	copied := int64(0)
	for _, img := range set.Manifest.Images {
		c := Copying{From: set.File(img), To: path.Join(RAMDir, images.ImagePath(img.ID)), Image: img, Unverified: set.Unverified}
		c.Progress = func(at int64) {
			r.Alive()
			if line := meter.at(copied+at, time.Now()); line != "" {
				r.Sayf("copying to memory: %s", line)
			}
		}
		r.Detailf("cp %s %s # verified while it is read", c.From, c.To)
		if err := v.System.Copy(ctx, c); err != nil {
			return fmt.Errorf("%s %q: %w", img.Role, img.Name, err)
		}
		copied += img.Size
	}
	if !paper {
		r.Sayf("copying to memory: %s", meter.end(copied, time.Now()))
	}
	done := &r.Record.Store.Copy
	done.Images, done.Bytes = true, copied
	return v.copyDeployment(m, set)
}

// copyDeployment makes the copy a store: the commands of the running system look for the manifest in it.
func (v Variant) copyDeployment(m stage.Machine, set *stage.Set) error {
	if set.Dir == "" || set.Backing != nil {
		return nil // it was no store to begin with
	}
	manifest, signature, err := images.ReadDeployment(m.Files(set.Dir), set.Serial)
	if err != nil {
		return err
	}
	dir := path.Join(RAMDir, images.DeploymentPath(set.Serial))
	return errors.Join(v.System.Write(path.Join(dir, images.ManifestName), manifest), v.System.Write(path.Join(dir, images.SignatureName), signature),
		v.System.Write(path.Join(RAMDir, images.DefaultPath()), []byte(set.Serial+"\n")))
}

// release lets go of what the set lay on.
func (v Variant) release(r *stage.Runner, m stage.Machine, env *stage.Env, set *stage.Set, place boot.Place) error {
	if err := m.Apply(mount.Unwritable{Target: RAMDir}); err != nil {
		return err
	}
	from := RAMDir
	set.Backing = func(img images.Image) string { return path.Join(from, images.ImagePath(img.ID)) }
	if place.Kind == boot.StateInStore {
		r.Noticef("the images are in memory; the state is in the store, so that the medium has to stay")
		return nil
	}
	drive := r.Record.Store.Medium.Device
	if drive == "" {
		drive = set.Device.Path
	}
	r.Detailf("take down the mount of the store, and what it lay on")
	if err := r.Release(set); err != nil {
		r.Noticef("the images are in memory; the medium cannot be let go: %v", err)
		return nil
	}
	// The copy takes the place of the store, so that whatever looks for one finds it.
	if err := apply(r, m, mount.Mkdir{Path: stage.StoreDir, Mode: 0o755}, mount.Move{Source: RAMDir, Target: stage.StoreDir}); err != nil {
		return err
	}
	from, set.Dir = stage.StoreDir, stage.StoreDir
	r.Record.Store.Dir, r.Record.Store.Copy.Released = ".", true
	if place.Kind != boot.NoState {
		r.Noticef("the images are in memory, and %s is not used any more, but for the state if it lies there", drive)
		return nil
	}
	r.Noticef("the images are in memory: the medium (%s) may be removed", drive)
	if env.Config.Eject {
		if err := v.System.Eject(drive); err != nil {
			r.Noticef("%s was not ejected: %v", drive, err)
		}
	}
	return nil
}
