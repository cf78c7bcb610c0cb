package netboot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/images"
	"veneer/images/copyin"
	"veneer/overlay/mount"
	"veneer/stage"
)

// temporary names in a cache begin as those of veneer install do; nobody takes them for what they will be.
const tempPrefix = ".new-"

// forever is more than any transfer takes: that it goes on is watched byte by byte.
const forever = 24 * time.Hour

// openCache finds and mounts the store on a disk that is to hold what is fetched.
func (v *Variant) openCache(ctx, waiting context.Context, r *stage.Runner, m stage.Machine, env *stage.Env, set *stage.Set) (err error) {
	set.Device, err = stage.Do(waiting, r, stage.StepFindStore, func(ctx context.Context) (stage.Device, error) { return m.Device(ctx, v.cache.Device) })
	if err != nil {
		return err
	}
	env.Config.Store = *v.cache
	set.Dir, err = stage.Do(ctx, r, stage.StepMountStore, func(context.Context) (string, error) {
		switch d := set.Device; {
		case d.FileSystem != "ext4" && d.FileSystem != "btrfs" && d.FileSystem != "xfs":
			return "", fmt.Errorf("veneer.cache=: %s (%s): a cache lies on ext4, btrfs or xfs", d.Path, d.FileSystem)
		case d.ReadOnly:
			return "", fmt.Errorf("veneer.cache=: %s cannot be written", d.Path)
		}
		r.Record.Store = stage.Store{Device: set.Device.Path, FileSystem: set.Device.FileSystem, Dir: v.cache.Dir}
		return path.Join(stage.StoreDir, v.cache.Dir), r.MountReadOnly(m, set.Device, "", mount.NoSuid|mount.NoDev|mount.NoExec)
	})
	return err
}

// Settle implements stage.Variant: the images are fetched, into memory or into the cache.
func (v *Variant) Settle(ctx context.Context, r *stage.Runner, m stage.Machine, env *stage.Env, set *stage.Set) error {
	if v.found != set || set == nil {
		return v.Next.Settle(ctx, r, m, env, set)
	}
	defer v.client.Close()
	defer func(bound time.Duration) { r.Bound = bound }(r.Bound)
	r.Bound = forever
	_, err := stage.Do(ctx, r, stage.StepCopyImages, func(ctx context.Context) (struct{}, error) {
		if v.cache != nil {
			return struct{}{}, v.intoCache(ctx, r, m, env, set)
		}
		return struct{}{}, v.intoMemory(ctx, r, m, env, set)
	})
	return err
}

// intoMemory makes a store in memory, after it is certain that it fits.
func (v *Variant) intoMemory(ctx context.Context, r *stage.Runner, m stage.Machine, env *stage.Env, set *stage.Set) error {
	_, size, err := stage.Writable(env, set.Manifest)
	if err != nil {
		return err
	}
	upper := size.Of(env.RAM)
	b := copyin.Budget{Images: sizeOf(set.Manifest.Images), Upper: upper, Available: env.RAM}
	if !env.Paper {
		if b.Available, err = v.Memory(); err != nil {
			return err
		}
	}
	room, err := b.Room()
	if err != nil {
		return err
	}
	if room < upper {
		r.Noticef("the upper may grow to %s, and not to %s: the images lie in memory", copyin.MiB(room), copyin.MiB(upper))
		env.Config.Upper.Size = boot.Size{Bytes: room}
	}
	const flags = mount.NoSuid | mount.NoDev | mount.NoExec | mount.NoAtime
	fs := mount.Mount{Type: "tmpfs", Source: "veneer-store", Target: stage.StoreDir, Flags: flags, Data: fmt.Sprintf("mode=0755,size=%d", b.Images+sideRoom)}
	if err := r.Apply(m, mount.Mkdir{Path: stage.StoreDir, Mode: 0o755}, fs); err != nil {
		return err
	}
	if err := v.fetch(ctx, r, env, set, set.Manifest.Images, false); err != nil {
		return err
	}
	return r.Apply(m, mount.Restrict{Target: stage.StoreDir, Flags: flags | mount.ReadOnly})
}

// sideRoom is for what lies beside the images: manifest, signature, directories.
const sideRoom = 4 << 20

// intoCache adds the set to the store on a disk. Whatever it is cut off at, the store holds the sets that it held, and this one once
// it is whole; what has arrived of an image is there at the next boot.
func (v *Variant) intoCache(ctx context.Context, r *stage.Runner, m stage.Machine, env *stage.Env, set *stage.Set) error {
	if env.Paper {
		return v.fetch(ctx, r, env, set, set.Manifest.Images, true)
	}
	missing := missingImages(set)
	old, err := os.ReadFile(filepath.Join(set.Dir, images.DeploymentPath(set.Serial), images.ManifestName))
	def, derr := os.ReadFile(filepath.Join(set.Dir, images.DefaultPath()))
	if len(missing) == 0 && err == nil && string(old) == string(v.text) && derr == nil && string(def) == set.Serial+"\n" {
		r.Detailf("the cache holds the set")
		return nil
	}
	writable := mount.Writable{Target: stage.StoreDir}
	if err := r.Apply(m, writable); err != nil {
		return err
	}
	if err := makeRoom(r, set, missing); err != nil {
		return err
	}
	if err := v.fetch(ctx, r, env, set, missing, true); err != nil {
		return err
	}
	return r.Apply(m, mount.Unwritable{Target: stage.StoreDir})
}

func sizeOf(list []images.Image) (size int64) {
	for _, img := range list {
		size += img.Size
	}
	return size
}

// missingImages are those that the store does not have in their full size: an image has its own name only when it is whole.
func missingImages(set *stage.Set) (missing []images.Image) {
	for _, img := range set.Manifest.Images {
		info, err := os.Stat(filepath.Join(set.Dir, images.ImagePath(img.ID)))
		if err != nil || !info.Mode().IsRegular() || info.Size() != img.Size {
			missing = append(missing, img)
		}
	}
	return missing
}

// makeRoom reports whether what is missing fits. Where it does not, what an earlier set left goes first: everything but the images of
// the default and of this set.
func makeRoom(r *stage.Runner, set *stage.Set, missing []images.Image) error {
	need := sizeOf(missing) + sideRoom
	for _, img := range missing {
		if info, err := os.Stat(partOf(set, img)); err == nil {
			need -= info.Size()
		}
	}
	if err := os.MkdirAll(set.Dir, 0o755); err != nil {
		return err
	}
	free, err := freeOf(set.Dir)
	if err != nil || free >= need {
		return err
	}
	if err := sweep(r, set); err != nil {
		return err
	}
	if free, err = freeOf(set.Dir); err == nil && free < need {
		err = fmt.Errorf("%w: %s are to be fetched into the cache, and %s are free on %s; make it larger, or boot without veneer.cache=",
			copyin.ErrNoRoom, copyin.MiB(need), copyin.MiB(free), set.Device.Path)
	}
	return err
}

// sweep removes deployments that are neither the default nor this one, and then the images that no deployment names. The deployments
// go first: a store never names an image that it lacks.
func sweep(r *stage.Runner, set *stage.Set) error {
	store := os.DirFS(set.Dir)
	serials, _, err := images.Deployments(store)
	if err != nil {
		return err
	}
	def, _ := images.Default(store) // one that cannot be read names nothing
	named := map[string]bool{}
	for _, img := range set.Manifest.Images {
		named[img.ID] = true
	}
	for _, serial := range serials {
		text, _, rerr := images.ReadDeployment(store, serial)
		man, perr := images.ParseSigned(text)
		if serial == def || serial == set.Serial {
			if rerr != nil || perr != nil {
				continue
			}
			for _, img := range man.Images {
				named[img.ID] = true
			}
			continue
		}
		r.Noticef("cache: deployment %s is removed to make room", serial)
		if err := os.RemoveAll(filepath.Join(set.Dir, images.DeploymentPath(serial))); err != nil {
			return err
		}
	}
	if err := syncDir(filepath.Join(set.Dir, images.DeploymentPath("."))); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	dir := filepath.Join(set.Dir, path.Dir(images.ImagePath("x")))
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var errs []error
	for _, e := range entries {
		id := idOf(e.Name())
		if id != "" && !named[id] {
			r.Noticef("cache: image %s is removed to make room", id)
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// idOf is the ID in the name of an image, or of a part of one; "" for any other file.
func idOf(name string) string {
	id, ok := strings.CutSuffix(strings.TrimPrefix(name, tempPrefix), ".img")
	if !ok || images.CheckID(id) != nil {
		return ""
	}
	return id
}

func freeOf(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("room in %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// partOf is the file of an image that has not arrived yet.
func partOf(set *stage.Set, img images.Image) string {
	name := images.ImagePath(img.ID)
	return filepath.Join(set.Dir, path.Dir(name), tempPrefix+path.Base(name))
}

// fetch fetches the images, and then writes what names them: a deployment is in the store when its images are.
func (v *Variant) fetch(ctx context.Context, r *stage.Runner, env *stage.Env, set *stage.Set, list []images.Image, durable bool) error {
	for _, img := range list {
		r.Detailf("fetch %s%s # %s %q, %s", v.client.Base, images.ImagePath(img.ID), img.Role, img.Name, copyin.MiB(img.Size))
	}
	if env.Paper {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(set.Dir, path.Dir(images.ImagePath("x"))), 0o755); err != nil {
		return err
	}
	v.client.Patience = env.Config.Wait
	start, size := time.Now(), sizeOf(list)
	for _, img := range list {
		if err := v.fetchImage(ctx, set, img, durable); err != nil {
			return fmt.Errorf("%s %q: %w", img.Role, img.Name, err)
		}
	}
	if took := time.Since(start); len(list) > 0 {
		r.Noticef("%s were fetched and verified in %s, %.1f MiB/s", copyin.MiB(size), took.Round(time.Millisecond), float64(size)/(1<<20)/max(took.Seconds(), 1e-3))
	}
	dir := filepath.Join(set.Dir, images.DeploymentPath(set.Serial))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		text []byte
	}{{filepath.Join(dir, images.SignatureName), v.sig}, {filepath.Join(dir, images.ManifestName), v.text}, {filepath.Join(set.Dir, images.DefaultPath()), []byte(set.Serial + "\n")}} {
		if len(f.text) == 0 { // nobody signed it, and nobody was to
			continue
		}
		if err := replace(f.name, f.text); err != nil {
			return err
		}
	}
	return nil
}

// fetchImage fetches one image under a temporary name.
func (v *Variant) fetchImage(ctx context.Context, set *stage.Set, img images.Image, durable bool) error {
	part := partOf(set, img)
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	dst, err := copyin.New(f, img)
	if err == nil {
		dst.Durable = durable
		if _, err = dst.Resume(ctx); err == nil {
			err = v.client.Image(ctx, dst)
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		if errors.Is(err, copyin.ErrWrong) { // nothing of it is of use
			err = errors.Join(err, os.Remove(part))
		}
		return err
	}
	name := filepath.Join(set.Dir, images.ImagePath(img.ID))
	return errors.Join(os.Rename(part, name), syncDir(filepath.Dir(name)))
}

// replace puts a small file in place as a whole, so that a power cut leaves the old one or the new one.
func replace(name string, text []byte) error {
	temp := filepath.Join(filepath.Dir(name), tempPrefix+filepath.Base(name))
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return errors.Join(os.Rename(temp, name), syncDir(filepath.Dir(name)))
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
