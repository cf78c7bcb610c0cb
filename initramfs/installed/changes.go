package installed

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// change is a file to be put in place, or, without content, to be removed; dirs are removed with it where they are empty then.
type change struct {
	path    string
	content []byte
	mode    os.FileMode
	dirs    int // how many directories above it are ours
}

type changes []change

// margin is left free in the file system that the kernels are on, bytes.
const margin = 1 << 20

// carryOut does what is not so already. With a dry run it only lists.
func (c changes) carryOut(r *Report) error {
	var todo changes
	need := map[string]int64{}
	for _, one := range c {
		old, err := os.ReadFile(one.path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && one.content == nil:
			continue
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		case err == nil && one.content != nil && bytes.Equal(old, one.content):
			continue
		}
		verb := "write"
		if one.content == nil {
			verb = "remove"
		}
		r.Changes = append(r.Changes, verb+" "+one.path)
		need[there(filepath.Dir(one.path))] += int64(len(one.content))
		todo = append(todo, one)
	}
	for dir, bytes := range need {
		if err := room(dir, bytes); err != nil {
			return err
		}
	}
	if r.DryRun {
		return nil
	}
	for _, one := range todo {
		if err := one.carryOut(); err != nil {
			return err
		}
	}
	return nil
}

// there is the nearest directory that exists.
func there(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// room reports whether so many bytes can be written below dir, beside what they replace.
func room(dir string, bytes int64) error {
	if bytes == 0 {
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if free := int64(st.Bavail) * st.Bsize; free < bytes+margin {
		return fmt.Errorf("%s has %d bytes free, and %d are needed: remove a kernel that nobody boots any more (apt autoremove)", dir, free, bytes+margin)
	}
	return nil
}

func (c change) carryOut() error {
	dir := filepath.Dir(c.path)
	if c.content == nil {
		if err := os.Remove(c.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for range c.dirs {
			if os.Remove(dir) != nil {
				return nil // others have something there
			}
			dir = filepath.Dir(dir)
		}
		return syncDir(there(dir))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	temp := filepath.Join(dir, ".veneer-new")
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, c.mode)
	if err != nil {
		return err
	}
	_, err = f.Write(c.content)
	// Not what the umask made of it; on vfat there is nothing to set.
	if merr := f.Chmod(c.mode); merr != nil && !errors.Is(merr, unix.EPERM) {
		err = errors.Join(err, merr)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(temp, c.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncDir(dir)
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) { // vfat knows no such thing
		err = nil
	}
	return errors.Join(err, d.Close())
}

// hookFiles are run when kernels come and go, after those that make the menu: run-parts(8) goes by the names.
var hookFiles = []string{"etc/kernel/postinst.d/zz-veneer", "etc/kernel/postrm.d/zz-veneer"}

// hooks renews the entries with the kernels. A hook that fails tells, and does not hold up the package.
func (s Spec) hooks() changes {
	if s.Command == "" {
		return nil
	}
	args := ""
	for _, a := range []struct{ flag, value string }{{"--device", s.Device}, {"--append", s.Append}} {
		if a.value != "" {
			args += " " + a.flag + " " + shellQuoted(a.value)
		}
	}
	if s.Shell {
		args += " --rescue-shell"
	}
	script := func(what, args string) []byte {
		return []byte("#!/bin/sh\n# Written by 'veneer initramfs', and taken away by 'veneer initramfs --remove'.\n" +
			"[ -x " + shellQuoted(s.Command) + " ] || exit 0\n" +
			shellQuoted(s.Command) + " initramfs " + args + " --kernel \"$1\" ||\n" +
			"\techo \"veneer: " + what + "; run 'veneer initramfs --kernel $1' by hand\" >&2\nexit 0\n")
	}
	return changes{
		{path: filepath.Join(s.Root, hookFiles[0]), mode: 0o755, content: script("kernel $1 has no entry with an overlay", strings.TrimSpace("--no-hooks"+args))},
		{path: filepath.Join(s.Root, hookFiles[1]), mode: 0o755, content: script("the entry of kernel $1 is still there", "--remove")},
	}
}

func shellQuoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
