package esp

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Step is called before each change, in tests; an error is a power cut.
type Step func(what string) error

// tempPrefix begins the names of what is not finished. systemd-boot passes over names with a dot in front.
const tempPrefix = ".new-"

// Files changes files below a directory.
type Files struct {
	Root string
	Step Step // may be nil
}

func (f Files) at(name string) string { return filepath.Join(f.Root, filepath.FromSlash(name)) }

func temp(name string) string {
	return filepath.Join(filepath.Dir(name), tempPrefix+filepath.Base(name))
}

func (f Files) change(what string) error {
	if f.Step == nil {
		return nil
	}
	return f.Step(what)
}

// Stage writes what is to become name under another name: durable, and read back from the medium as same tells. The directories above it
// are made.
func (f Files) Stage(name string, content io.Reader, same func(io.Reader) error) (err error) {
	if err := f.change("stage " + name); err != nil {
		return err
	}
	if err := f.mkdir(filepath.Dir(name)); err != nil {
		return err
	}
	to, err := os.OpenFile(f.at(temp(name)), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if _, err := io.Copy(to, content); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := f.sync(to); err != nil {
		return err
	}
	_ = unix.Fadvise(int(to.Fd()), 0, 0, unix.FADV_DONTNEED)
	if err := same(io.NewSectionReader(to, 0, 1<<62)); err != nil {
		return fmt.Errorf("%s, read back from the EFI system partition: %w", name, err)
	}
	return nil
}

// Publish gives what was staged its name. What had the name before becomes former, or is deleted where that is empty.
//
// FAT knows no journal. Where there was nothing before, a power cut leaves nothing or the new file: one entry of a directory is written. A
// file is replaced by exchange of the two names (vfat of Linux 6.0 and newer): both chains of clusters are on the medium before, none is
// freed, and each name stands for one of them at any instant, if at worst both for the same. An older kernel renames over the file, which
// a power cut between two sectors can leave without its content.
func (f Files) Publish(name, former string) error {
	if _, err := os.Lstat(f.at(name)); errors.Is(err, fs.ErrNotExist) {
		return f.Rename(temp(name), name)
	} else if err != nil {
		return err
	}
	if err := f.change("exchange " + name); err != nil {
		return err
	}
	err := unix.Renameat2(unix.AT_FDCWD, f.at(temp(name)), unix.AT_FDCWD, f.at(name), unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return f.over(name, former)
	}
	if err != nil {
		return &os.PathError{Op: "replace", Path: f.at(name), Err: err}
	}
	if err := f.syncAll(); err != nil {
		return err
	}
	if former == "" {
		return f.Remove(temp(name))
	}
	if err := f.mkdir(filepath.Dir(former)); err != nil {
		return err
	}
	return f.Rename(temp(name), former)
}

// over is Publish where names cannot be exchanged: a copy of the former file comes first.
func (f Files) over(name, former string) error {
	if former != "" {
		old, err := os.Open(f.at(name))
		if err != nil {
			return err
		}
		err = f.Stage(former, old, func(io.Reader) error { return nil })
		if err = errors.Join(err, old.Close()); err == nil {
			err = f.Rename(temp(former), former)
		}
		if err != nil {
			return err
		}
	}
	return f.Rename(temp(name), name)
}

// Rename gives a file another name, durably.
func (f Files) Rename(from, to string) error {
	if err := f.change("rename " + from + " to " + to); err != nil {
		return err
	}
	if err := os.Rename(f.at(from), f.at(to)); err != nil {
		return err
	}
	return f.syncAll()
}

// Remove deletes a file or an empty directory, durably. What is not there is no error, and what holds other things stays.
func (f Files) Remove(name string) error {
	if err := f.change("remove " + name); err != nil {
		return err
	}
	if err := os.Remove(f.at(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return f.syncAll()
}

// Sweep deletes what an installation that was cut off left in the directories: files with the names that Stage gives to programs and
// configurations.
func (f Files) Sweep(dirs ...string) error {
	var errs []error
	for _, dir := range dirs {
		list, err := os.ReadDir(f.at(dir))
		if err != nil {
			continue // there is none
		}
		for _, e := range list {
			suffix := strings.ToLower(filepath.Ext(e.Name()))
			if strings.HasPrefix(e.Name(), tempPrefix) && e.Type().IsRegular() && (suffix == ".efi" || suffix == ".cfg") {
				errs = append(errs, f.Remove(filepath.Join(dir, e.Name())))
			}
		}
	}
	return errors.Join(errs...)
}

func (f Files) mkdir(dir string) error {
	if err := os.MkdirAll(f.at(dir), 0o755); err != nil {
		return err
	}
	return nil
}

func (f Files) sync(file *os.File) error {
	if err := file.Sync(); err != nil {
		return &os.PathError{Op: "sync", Path: file.Name(), Err: err}
	}
	return f.syncAll() // FAT: tables and directories too
}

// syncAll makes the whole file system durable: vfat has no fsync of a directory that would do.
func (f Files) syncAll() error {
	d, err := os.Open(f.Root)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return &os.PathError{Op: "sync the file system of", Path: f.Root, Err: err}
	}
	return nil
}
