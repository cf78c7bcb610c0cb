package live

// Before: drivers are loaded, and nothing is mounted.
// After: the root partition of an installed system is mounted read-only, the whole of it at stage.StoreDir and the directory that is the
// root at stage.BaseDir, and stands for the base. It is not changed: what the merged root must have otherwise is written to the upper.

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"veneer/boot"
	"veneer/images"
	"veneer/overlay/identity"
	"veneer/overlay/mount"
	"veneer/stage"
)

// keepers are where an installed system has the program that works in a state.
var keepers = []string{"usr/local/bin/veneer", "usr/bin/veneer"}

// errRootUnsigned refuses a root that nobody vouches for.
var errRootUnsigned = errors.New("the root of an installed system carries no signature, and this initramfs was not built with allow-unsigned")

// findInstalled makes the root that Config.Root names the base.
func findInstalled(ctx, waiting context.Context, r *stage.Runner, m stage.Machine, env *stage.Env, o asked) (*stage.Set, error) {
	cfg := &env.Config
	ref := cfg.Root
	dev, err := stage.Do(waiting, r, stage.StepFindMedium, func(ctx context.Context) (stage.Device, error) {
		switch {
		case !env.AllowUnsigned && !env.Paper:
			return stage.Device{}, fmt.Errorf("%s: %w", ref.Device, errRootUnsigned)
		case cfg.State.Kind == boot.StateInStore:
			return stage.Device{}, errors.New("veneer.state=store: what is written over an installed system cannot lie on its own root; name another device")
		}
		return m.Device(ctx, ref.Device)
	})
	if err != nil {
		return nil, err
	}
	// That is said of the disk by every boot entry of a distribution, and the disk is read-only.
	cfg.ReadOnly = false
	set := &stage.Set{Serial: stage.Installed, Device: dev, Dir: stage.StoreDir, Unverified: true, Mounted: []string{stage.BaseDir}}
	_, err = stage.Do(ctx, r, stage.StepMountImages, func(context.Context) (struct{}, error) {
		err := mountInstalled(r, m, ref, dev)
		if err != nil {
			err = fmt.Errorf("root %s on %s (%s): %w", ref.Device, dev.Path, dev.FileSystem, err)
		}
		return struct{}{}, err
	})
	if err != nil {
		return nil, err
	}
	root := m.Files(stage.BaseDir)
	describe(r, root, env, set, o)
	fstab, err := fs.ReadFile(root, "etc/fstab")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &stage.StepError{Step: stage.StepMountImages, Err: err}
	}
	edited, others := protectFstab(string(fstab), cfg.Swap)
	if len(others) > 0 {
		why := "what is written to " + strings.Join(others, ", ") + " is kept: /etc/fstab mounts that from elsewhere"
		if o.recurse != "0" {
			why += "; recurse=" + o.recurse + " of overlayroot= is not followed"
		}
		r.Degrade("only / is under the overlay", why)
	}
	set.Merged = func(dir string) error {
		r.Detailf("etc/fstab: leave out / and swap")
		if env.Paper {
			return nil
		}
		return settle(dir, string(fstab), edited, cfg.Swap)
	}
	return set, nil
}

func mountInstalled(r *stage.Runner, m stage.Machine, ref boot.StoreRef, dev stage.Device) error {
	options := ""
	switch dev.FileSystem {
	case "btrfs":
		if ref.Dir != "." {
			options = "subvolid=5" // of which every subvolume is a directory
		}
	case "ext4", "xfs":
	default:
		return errors.New("the root of an installed system can be ext4, btrfs or xfs; LVM, RAID and encrypted roots are not opened here")
	}
	if unfinished(m, dev) {
		r.Noticef("%s was not unmounted; the kernel finishes its journal, which is the one write to it", dev.Path)
	}
	if err := r.MountReadOnly(m, dev, options, 0); err != nil {
		return err
	}
	from := path.Join(stage.StoreDir, ref.Dir)
	if err := r.Apply(m, mount.Mkdir{Path: stage.BaseDir, Mode: 0o755}, mount.Bind{Source: from, Target: stage.BaseDir}); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: it has no such directory or subvolume", err)
		}
		return err
	}
	r.Record.Store = stage.Store{Reference: ref.Device.String(), Device: dev.Path, FileSystem: dev.FileSystem, Dir: ref.Dir}
	return nil
}

// unfinished reports whether an ext4 has a journal to be replayed, where that can be done (RECOVER in s_feature_incompat,
// Documentation/filesystems/ext4/super.rst).
func unfinished(m stage.Machine, dev stage.Device) bool {
	if dev.FileSystem != "ext4" || dev.ReadOnly {
		return false
	}
	f, err := m.Files("/dev").Open(strings.TrimPrefix(dev.Path, "/dev/"))
	if err != nil {
		return false
	}
	defer f.Close()
	r, ok := f.(io.ReaderAt)
	b := make([]byte, 1)
	if !ok {
		return false
	}
	_, err = r.ReadAt(b, 1024+0x60)
	return err == nil && b[0]&4 != 0
}

// describe fills in what a manifest would say. The ID tells the place and not the content, which is changed whenever the system is
// booted without a veneer: an upper that is kept goes with the place.
func describe(r *stage.Runner, root fs.FS, env *stage.Env, set *stage.Set, o asked) {
	release := osRelease(root)
	ref, dev := env.Config.Root, set.Device
	sum := sha256.Sum256([]byte("installed " + ref.Device.String() + ":" + ref.Dir))
	id := hex.EncodeToString(sum[:])
	man := images.Manifest{Name: release["ID"], Version: release["VERSION_ID"], Architecture: env.Arch}
	if man.Name == "" {
		man.Name = "linux"
	}
	man.Images = []images.Image{{Role: images.RoleBase, Name: "root", ID: id, FileSystem: dev.FileSystem}}
	for _, name := range identity.Names() {
		man.Identity = append(man.Identity, identity.Setting{Name: name, Mode: identity.Inherit})
	}
	set.Manifest = man
	for _, name := range keepers {
		if info, err := fs.Stat(root, name); err == nil && info.Mode().IsRegular() {
			set.Keeper = path.Join(stage.BaseDir, name)
			break
		}
	}
	rec := &r.Record
	rec.Deployment = stage.Deployment{Serial: stage.Installed, Why: o.why, Name: man.Name, Version: man.Version, Architecture: man.Architecture}
	rec.Images = []stage.Attached{{Role: images.RoleBase, Name: "root", ID: id, FileSystem: dev.FileSystem, Size: dev.Size, Device: dev.Path, Mount: stage.BaseDir}}
	r.Degrade("not verified", "the root is that of an installed system, on "+dev.Path+": nobody signed it, and nothing of it was checked")
	if release := rec.Kernel; release != "" && !env.Paper {
		if _, err := fs.Stat(root, "lib/modules/"+release); err != nil {
			r.Degrade("another kernel runs", release+", for which the system has no modules (/lib/modules); run veneer initramfs in it again")
		}
	}
}

// osRelease reads os-release(5) as far as names and versions go.
func osRelease(root fs.FS) map[string]string {
	text, err := fs.ReadFile(root, "etc/os-release")
	if err != nil {
		text, _ = fs.ReadFile(root, "usr/lib/os-release")
	}
	values := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[name] = strings.Trim(value, `"'`)
		}
	}
	return values
}

// settle makes the merged root leave the disk alone: its /etc/fstab, for any init, and units of systemd.
func settle(dir, fstab, edited string, swap bool) error {
	units := []string{"systemd-growfs-root.service"} // about the disk, as are those that every boot masks
	if !swap {
		units = append(units, "swap.target") // what GPT partitions add on their own is behind it too
	}
	const at = "/run/systemd/system"
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	for _, unit := range units {
		if err := os.Symlink(os.DevNull, path.Join(at, unit)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return editFstab(dir, fstab, edited, swap)
}

func editFstab(dir, fstab, edited string, swap bool) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	// An upper that is kept may have one of its own.
	now, err := root.ReadFile("etc/fstab")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case string(now) != fstab:
		edited, _ = protectFstab(string(now), swap)
	}
	if edited == string(now) {
		return nil
	}
	// Written in place: it is in memory, or what is lost with the power is written again at the next boot.
	return root.WriteFile("etc/fstab", []byte(edited), 0o644)
}
