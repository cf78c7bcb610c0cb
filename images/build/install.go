package build

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"veneer/images"
	"veneer/images/verity"
)

// InstallSpec is a build output that becomes a deployment of a store.
type InstallSpec struct {
	Output   string // directory of the build output
	Store    string // directory of the store, or one that holds it as veneer/; the store is made where there is none
	Keys     []Key  // trusted; nil for those of the output's own initramfs
	Default  bool   // what is installed boots from now on
	ESP      string // the EFI system partition to renew too: a device or a mounted directory; empty: that of the store's disk, if it is ours; "none"
	DryRun   bool
	Progress func(done, total int64) // bytes; may be nil

	stop   func(step string) error // in tests: called before each change of the store, an error is a power cut
	anyESP bool                    // in tests: any directory passes for an EFI system partition
}

// Installed is what an installation did.
type Installed struct {
	Store   string   `json:"store"`
	Serial  string   `json:"serial"`
	Name    string   `json:"name"`
	Version string   `json:"version"`
	Copied  []string `json:"copied"` // IDs of the images that were not there
	Bytes   int64    `json:"bytes"`  // of them
	Known   bool     `json:"known"`  // the very same set was installed before
	Default bool     `json:"default"`
	ESP     *Renewed `json:"esp,omitempty"` // nil where none was renewed
	Notes   []string `json:"notes"`
	DryRun  bool     `json:"dry-run"`
}

// WriteText writes the report for people.
func (r Installed) WriteText(w io.Writer) error {
	p := printer{w: w}
	did := map[bool]string{false: "installed", true: "would be"}[r.DryRun]
	p.line(did, "%s %s as deployment %s of %s", r.Name, r.Version, r.Serial, r.Store)
	if r.Known {
		p.line("known", "this very set was there already")
	}
	p.line("copied", "%s, %s", count(int64(len(r.Copied)), "image"), FormatBytes(r.Bytes))
	if r.ESP != nil {
		r.ESP.print(p.line)
	}
	switch {
	case r.Default && r.ESP != nil:
		p.line("default", "it boots from the next time on")
	case r.Default:
		p.line("default", "it boots from the next time on, with the kernel and the initramfs of its output, which its boot loader needs")
	}
	for _, n := range r.Notes {
		p.line("note", "%s", n)
	}
	return p.err
}

// Install copies what a store lacks of a build output and makes a deployment of it. At any instant, a power cut included, the
// store boots what it booted before or, at the end, what was installed:
//
//   - the output is verified, each block of it
//   - the room is there, to the byte, or nothing is begun
//   - each image is written under another name, made durable, read back and verified, and then renamed
//   - manifest and signature appear as one directory, by rename
//   - what firmware starts is written to the EFI system partition under another name, and read back
//   - it gets its name, and what it follows stays beside it (esp.Files.Publish tells what FAT holds)
//   - the pointer to the default comes last, by rename
//
// A power cut between the last two starts the new kernel and initramfs with the deployment that was the default; the next installation
// completes it.
func Install(ctx context.Context, spec InstallSpec) (r Installed, err error) {
	found, err := Verify(ctx, VerifySpec{Path: spec.Output, Keys: spec.Keys})
	if err == nil {
		err = found.Err()
	}
	if err == nil && found.Kind != KindOutput {
		err = fmt.Errorf("is %s, and not a build output", found.Kind)
	}
	if err != nil {
		return Installed{}, fmt.Errorf("%s: %w", spec.Output, err)
	}
	text, err := readSmall(filepath.Join(spec.Output, images.ManifestName), images.MaxManifest)
	if err != nil {
		return Installed{}, err
	}
	man, err := images.ParseManifest(text)
	if err != nil {
		return Installed{}, err
	}
	i := installer{spec: spec, text: text, man: man}
	if i.store, err = storeAt(spec.Store); err != nil {
		return Installed{}, err
	}
	if blessed, err := images.ReadBlessed(os.DirFS(i.store)); err == nil && man.Epoch < blessed.Epoch {
		return Installed{}, fmt.Errorf("epoch %d, and %s keeps %d: %w; it would not boot", man.Epoch, i.store, blessed.Epoch, images.ErrOlderEpoch)
	}
	r = Installed{Store: i.store, Name: man.Name, Version: man.Version, Copied: []string{}, Default: spec.Default, DryRun: spec.DryRun, Notes: []string{}}
	for _, img := range man.Images {
		if !i.has(img) {
			r.Copied, r.Bytes = append(r.Copied, img.ID), r.Bytes+img.Size
		}
	}
	if r.Serial, r.Known, err = i.serial(); err != nil {
		return r, err
	}
	if err := i.room(r.Bytes); err != nil {
		return r, err
	}
	done, err := i.openESP(ctx, &r)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if spec.DryRun {
		return r, nil
	}
	return r, i.run(ctx, r)
}

// storeAt finds the directory of a store, or where it is to be made.
func storeAt(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is not a directory: mount the file system of the store, and name the mount point or the directory veneer/ in it", name)
	}
	if filepath.Base(filepath.Clean(name)) == "veneer" {
		return filepath.Clean(name), nil
	}
	if _, err := os.Stat(filepath.Join(name, "images")); err == nil {
		return filepath.Clean(name), nil
	}
	return filepath.Join(name, "veneer"), nil
}

// installer is an installation in progress.
type installer struct {
	spec  InstallSpec
	store string
	text  []byte
	man   images.Manifest
	esp   *renewal // nil where no EFI system partition is renewed
}

func (i *installer) at(name string) string { return filepath.Join(i.store, filepath.FromSlash(name)) }

// has reports whether an image seems to be there. A copy that was cut off has another name.
func (i *installer) has(img images.Image) bool {
	info, err := os.Lstat(i.at(images.ImagePath(img.ID)))
	return err == nil && info.Mode().IsRegular() && info.Size() == img.Size
}

// serial is that of the deployment with this very manifest, or the next free one.
func (i *installer) serial() (serial string, known bool, err error) {
	serials, _, err := images.Deployments(os.DirFS(i.store))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", false, err
	}
	last := 0
	for _, s := range serials {
		text, _, err := images.ReadDeployment(os.DirFS(i.store), s)
		if err == nil && string(text) == string(i.text) {
			return s, true, nil
		}
		n, _ := strconv.Atoi(s) // checked when the store was listed
		last = max(last, n)
	}
	return strconv.Itoa(last + 1), false, nil
}

// installMargin is room for directories, manifests and what the running system files.
const installMargin = 1 << 20

func (i *installer) room(bytes int64) error {
	dir := i.store
	if _, err := os.Stat(dir); err != nil {
		dir = filepath.Dir(dir)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("statfs %s: %w", dir, err)
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return fmt.Errorf("%s is mounted read-only", dir)
	}
	if free := int64(st.Bavail) * st.Bsize; free < bytes+installMargin {
		return fmt.Errorf("%s has %d bytes free, and %d are needed: make room for %d more", dir, free, bytes+installMargin, bytes+installMargin-free)
	}
	return nil
}

func (i *installer) run(ctx context.Context, r Installed) error {
	steps := []func() error{func() error { return i.mkdir("images", "deployments") }}
	var done int64
	for _, img := range i.man.Images {
		if slices.Contains(r.Copied, img.ID) {
			steps = append(steps, func() error {
				err := i.copyImage(ctx, img, func(n int64) {
					if i.spec.Progress != nil {
						i.spec.Progress(done+n, r.Bytes)
					}
				})
				done += img.Size
				return err
			})
		}
	}
	if !r.Known {
		steps = append(steps, func() error { return i.deploy(r.Serial) })
	}
	if i.esp != nil {
		steps = append(steps, i.esp.stage, i.esp.publish)
	}
	if r.Default {
		steps = append(steps, func() error { return i.replace(images.DefaultPath(), []byte(r.Serial+"\n")) })
	}
	for _, step := range steps {
		if err := errors.Join(ctx.Err()); err != nil {
			return err
		}
		if err := step(); err != nil {
			return roomError(err, i.store, r.Bytes)
		}
	}
	return nil
}

// change announces a change of the store.
func (i *installer) change(step string) error {
	if i.spec.stop == nil {
		return nil
	}
	return i.spec.stop(step)
}

func (i *installer) mkdir(names ...string) error {
	for _, name := range append([]string{"."}, names...) {
		if err := i.change("mkdir " + name); err != nil {
			return err
		}
		err := os.Mkdir(i.at(name), 0o755)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err == nil {
			if err := syncDir(filepath.Dir(i.at(name))); err != nil {
				return err
			}
		}
	}
	return nil
}

// tempPrefix begins the names of what is not finished; the init ignores them.
const tempPrefix = ".new-"

// copyImage brings one image into the store. What is read back comes from the medium: a copy that was only right in memory is
// worth nothing after a power cut.
func (i *installer) copyImage(ctx context.Context, img images.Image, progress func(int64)) (err error) {
	name := images.ImagePath(img.ID)
	temp := path.Join(path.Dir(name), tempPrefix+path.Base(name))
	if err := i.change("copy " + name); err != nil {
		return err
	}
	from, err := os.Open(filepath.Join(i.spec.Output, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(i.at(temp), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := to.Close(); err == nil {
			err = cerr
		}
		if err != nil && i.spec.stop == nil {
			os.Remove(i.at(temp))
		}
	}()
	if err := unix.Fallocate(int(to.Fd()), 0, 0, img.Size); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("make room for %s: %w", name, err)
	}
	if _, err := io.Copy(to, &counted{ctx, from, 0, progress}); err != nil {
		return fmt.Errorf("copy %s: %w", name, err)
	}
	if err := errors.Join(to.Truncate(img.Size), to.Sync()); err != nil {
		return err
	}
	_ = unix.Fadvise(int(to.Fd()), 0, 0, unix.FADV_DONTNEED)
	root, err := hex.DecodeString(img.ID)
	if err != nil {
		return err
	}
	salt, err := hex.DecodeString(img.Verity.Salt)
	if err != nil {
		return err
	}
	p := verity.Params{DataBlocks: img.Verity.DataBlocks, HashOffset: img.Verity.HashOffset, Salt: salt}
	if err := verity.Verify(ctx, to, p, [32]byte(root), nil); err != nil {
		return fmt.Errorf("%s, read back from the store: %w", name, err)
	}
	return i.publish(temp, name)
}

// deploy makes the deployment's directory.
func (i *installer) deploy(serial string) error {
	name := images.DeploymentPath(serial)
	temp := path.Join(path.Dir(name), tempPrefix+serial)
	if err := i.change("write " + name); err != nil {
		return err
	}
	if err := os.RemoveAll(i.at(temp)); err != nil {
		return err
	}
	if err := os.Mkdir(i.at(temp), 0o755); err != nil {
		return err
	}
	for _, file := range []string{images.SignatureName, images.ManifestName} {
		text, err := readSmall(filepath.Join(i.spec.Output, file), images.MaxManifest)
		if errors.Is(err, fs.ErrNotExist) && file == images.SignatureName {
			continue // nobody signed it, and verification had nothing against that
		}
		if err != nil {
			return err
		}
		if err := writeSynced(i.at(path.Join(temp, file)), text); err != nil {
			return err
		}
	}
	if err := syncDir(i.at(temp)); err != nil {
		return err
	}
	return i.publish(temp, name)
}

// replace puts a small file in place as a whole.
func (i *installer) replace(name string, text []byte) error {
	temp := tempPrefix + name
	if err := i.change("write " + name); err != nil {
		return err
	}
	if err := writeSynced(i.at(temp), text); err != nil {
		return err
	}
	return i.publish(temp, name)
}

// publish gives what was made under another name its own.
func (i *installer) publish(temp, name string) error {
	if err := i.change("rename " + name); err != nil {
		return err
	}
	if err := os.Rename(i.at(temp), i.at(name)); err != nil {
		return err
	}
	if err := i.change("sync " + path.Dir(name)); err != nil {
		return err
	}
	return syncDir(filepath.Dir(i.at(name)))
}

func writeSynced(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, closeSynced(f))
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) { // a file system that knows no such thing, vfat for one, has nothing to wait for
		err = nil
	}
	return errors.Join(err, d.Close())
}

// counted reads until ctx ends and tells how far it has come.
type counted struct {
	ctx      context.Context
	r        io.Reader
	done     int64
	progress func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.done += int64(n)
	c.progress(c.done)
	return n, err
}
