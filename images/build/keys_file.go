package build

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// placeFile makes a file appear at path, whole and on the medium, with exactly this mode. A file that is there is replaced
// only if replace is set; otherwise the error is os.ErrExist, also when two programs do this at the same time.
func placeFile(path string, content []byte, mode os.FileMode, replace bool) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".veneer-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if rerr := os.Remove(f.Name()); !errors.Is(rerr, os.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}()
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if replace {
		err = os.Rename(f.Name(), path)
	} else {
		// link(2) is the one portable call that never replaces a file.
		err = os.Link(f.Name(), path)
		if err != nil && !errors.Is(err, os.ErrExist) {
			err = fmt.Errorf("%w (does the file system know hard links? --force does without)", err)
		}
	}
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readSmall reads a regular file of at most limit bytes.
func readSmall(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path) // before the open, which would wait for the writer of a fifo
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s: larger than %d bytes", path, limit)
	}
	return text, err
}
