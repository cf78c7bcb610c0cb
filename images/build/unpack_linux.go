package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// unpack makes the tree in an empty directory, with times after epoch set to it. It takes root, unless what only root may do is
// to be noted in fake. Directories on the way to a file are always those that it has made itself: no source has an entry below
// one that is not a directory.
func (t *Tree) unpack(ctx context.Context, dir string, epoch time.Time, fake *fakery, done func(int64)) error {
	first := map[int]string{}
	for _, e := range t.Entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		target := filepath.Join(dir, e.Path)
		if e.inode > 0 && first[e.inode] != "" {
			if err := os.Link(first[e.inode], target); err != nil {
				return fmt.Errorf("unpack: %w", err)
			}
			continue
		}
		first[e.inode] = target
		if err := t.unpackEntry(e, target, fake, done); err != nil {
			return fmt.Errorf("unpack %s: %w", quotePath(e.Path), err)
		}
	}
	for _, e := range t.Entries { // times last: each new name changes its directory's
		if err := setMetadata(e, filepath.Join(dir, e.Path), epoch, fake); err != nil {
			return fmt.Errorf("unpack %s: %w", quotePath(e.Path), err)
		}
	}
	for i := len(t.Entries) - 1; i >= 0; i-- {
		if e := t.Entries[i]; e.isDir() {
			if err := setTime(e, filepath.Join(dir, e.Path), epoch); err != nil {
				return err
			}
		}
	}
	if err := setMetadata(&t.Root, dir, epoch, fake); err != nil {
		return fmt.Errorf("unpack root directory: %w", err)
	}
	return nil
}

func (t *Tree) unpackEntry(e *Entry, target string, fake *fakery, done func(int64)) error {
	switch e.kind() {
	case unix.S_IFDIR:
		return os.Mkdir(target, 0o700)
	case unix.S_IFLNK:
		return os.Symlink(e.Target, target)
	case unix.S_IFREG:
		return t.unpackFile(e, target, done)
	}
	if fake != nil { // a file that will be shown as something else
		f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			err = f.Close()
		}
		return err
	}
	return unix.Mknod(target, e.kind()|0o600, int(unix.Mkdev(e.Major, e.Minor)))
}

func (t *Tree) unpackFile(e *Entry, target string, done func(int64)) error {
	out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	return t.copyContent(e, out, done)
}

// copyContent copies the content of a file, all of it.
func (t *Tree) copyContent(e *Entry, out io.Writer, done func(int64)) error {
	in, err := t.content.open(e)
	if err != nil {
		return err
	}
	defer in.Close()
	n, err := io.Copy(out, in)
	if err == nil && n != e.Size {
		err = errors.New("its size changed while it was read; build from a tree that nobody writes to")
	}
	done(n)
	return err
}

// setMetadata sets what changes of the content or of the owner would undo.
func setMetadata(e *Entry, target string, epoch time.Time, fake *fakery) error {
	if fake != nil {
		if err := fake.note(e, target); err != nil {
			return err
		}
		return setTime(e, target, epoch)
	}
	if err := os.Lchown(target, int(e.UID), int(e.GID)); err != nil {
		return err
	}
	if e.kind() != unix.S_IFLNK {
		if err := unix.Chmod(target, e.Mode&0o7777); err != nil {
			return &os.PathError{Op: "chmod", Path: target, Err: err}
		}
	}
	for _, x := range e.Xattrs { // after chown, which takes capabilities away
		if !erofsLimits.keeps(e, x.Name) { // a loss that was allowed
			continue
		}
		if err := unix.Lsetxattr(target, x.Name, x.Value, 0); err != nil {
			return &os.PathError{Op: "setxattr " + x.Name, Path: target, Err: err}
		}
	}
	return setTime(e, target, epoch)
}

func setTime(e *Entry, target string, epoch time.Time) error {
	ts, err := unix.TimeToTimespec(earlier(e.Mtime, epoch))
	if err == nil {
		err = unix.UtimesNanoAt(unix.AT_FDCWD, target, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return &os.PathError{Op: "utimensat", Path: target, Err: err}
	}
	return nil
}
