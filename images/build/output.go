package build

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/images"
)

// Files of a build output beside the manifest and its signature.
const (
	outKernel    = "vmlinuz"
	outInitramfs = "initramfs.cpio.zst"
	outStore     = "store.img"
	defaultFile  = "default" // of the store; staged only
)

// stage is a directory in the output directory in which a build is made ready. Until publish nothing else in the output
// directory changes.
type stage struct {
	out  string
	dir  string
	lock *os.File
	made bool // the output directory was not there before
	kept bool
}

// newStage makes the output directory, if it is not there, and locks it: two builds into one would mix.
func newStage(out string) (s *stage, err error) {
	s = &stage{out: out}
	_, err = os.Stat(out)
	s.made = errors.Is(err, os.ErrNotExist)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, fmt.Errorf("output directory: %w", err)
	}
	if s.lock, err = os.Open(out); err != nil {
		return nil, fmt.Errorf("output directory: %w", err)
	}
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("output directory %s: another build writes to it (%w); wait for it, or choose another with -o", out, err), s.lock.Close())
	}
	// What a killed build left; with the lock held nobody uses it.
	stale, _ := filepath.Glob(filepath.Join(escapeGlob(out), ".build-*"))
	for _, dir := range stale {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err == nil {
		s.dir, err = os.MkdirTemp(out, ".build-")
	}
	if err == nil {
		err = os.Mkdir(filepath.Join(s.dir, "images"), 0o755)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("output directory: %w", err), s.Close())
	}
	return s, nil
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// path is the place of a staged file.
func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

// write stages a file.
func (s *stage) write(name string, content []byte) error {
	f, err := s.create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, closeSynced(f))
}

// create makes a staged file with mode 0644, whatever the umask.
func (s *stage) create(name string) (*os.File, error) {
	f, err := os.OpenFile(s.path(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(0o644); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func closeSynced(f *os.File) error { return errors.Join(f.Sync(), f.Close()) }

// publish moves what was staged into the output directory, each file by rename:
//
//   - images first: their names are their content, so that none is ever replaced by another
//   - kernel, initramfs, store
//   - signature, then manifest: whoever finds the new manifest finds all that it names
//   - last, what the former build had and this one has not is removed
//
// What it puts there has the same modes whatever the umask; only the output directory itself keeps to it, so that a private
// one stays private.
func (s *stage) publish(m images.Manifest, names []string) error {
	dir := filepath.Join(s.out, "images")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, img := range m.Images {
		name := img.ID + ".img"
		wanted[name] = true
		if err := os.Rename(s.path(filepath.Join("images", name)), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := syncFile(dir); err != nil {
		return err
	}
	for _, name := range names {
		if err := s.setAside(name); err != nil {
			return err
		}
		if err := os.Rename(s.path(name), filepath.Join(s.out, name)); err != nil {
			return err
		}
	}
	if err := s.lock.Sync(); err != nil {
		return err
	}
	s.kept = true
	return s.sweep(dir, wanted, names)
}

// sweep removes what a former build put there and the manifest no longer names.
func (s *stage) sweep(dir string, wanted map[string]bool, names []string) error {
	old, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range old {
		id, isImage := strings.CutSuffix(f.Name(), ".img")
		if isImage && images.CheckID(id) == nil && !wanted[f.Name()] {
			errs = append(errs, os.Remove(filepath.Join(dir, f.Name())))
		}
	}
	for _, name := range []string{images.SignatureName, outStore, outUKI, outDisk, outQcow2, outZstd} {
		stays := false
		for _, n := range names {
			stays = stays || n == name
		}
		if !stays {
			if err := os.Remove(filepath.Join(s.out, name)); !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	if !slices.Contains(names, outNetboot) {
		errs = append(errs, s.setAside(outNetboot))
	}
	return errors.Join(errs...)
}

// setAside makes way for a directory, which no rename replaces. What was there goes with the staging directory.
func (s *stage) setAside(name string) error {
	old := filepath.Join(s.out, name)
	if info, err := os.Lstat(old); err != nil || !info.IsDir() {
		return nil
	}
	return os.Rename(old, s.path(".old-"+name))
}

// Close removes the staging directory, and the output directory if this build made it and published nothing.
func (s *stage) Close() error {
	var errs []error
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	if s.made && !s.kept {
		_ = os.Remove(filepath.Join(s.out, "images")) // both fail where there is something in them, as they should
		_ = os.Remove(s.out)
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// roomError turns an error that says "no space" into one that says how much there should be.
func roomError(err error, dir string, need int64) error {
	if !full(err) {
		return err
	}
	text := fmt.Sprintf("about %s are needed there", FormatBytes(need))
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) == nil {
		text += fmt.Sprintf(", %s are free", FormatBytes(int64(st.Bavail)*st.Bsize))
	}
	return fmt.Errorf("no space left in %s: %s; make room, or choose another directory with -o: %w", dir, text, err)
}
