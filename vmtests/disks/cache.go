package disks

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Cache is a directory of disks, each named by a digest of what it was made of. It only grows: throw it away as a whole.
type Cache struct{ Dir string }

// version is part of each digest: raise it when the same recipe has to give other bytes.
const version = 1

// keep returns the file for a recipe and the content of the paths, and has it made if it is not there. Two that make the same
// file at once do not disturb each other, as each renames its own into place.
func (c Cache) keep(kind string, recipe any, paths []string, fill func(file string) error) (string, error) {
	key, err := digest(recipe, paths)
	if err != nil {
		return "", fmt.Errorf("make %s: %w", kind, err)
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return "", err
	}
	path, err := filepath.Abs(filepath.Join(c.Dir, kind+"-"+key+".img"))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	scratch, err := os.MkdirTemp(c.Dir, ".part-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(scratch)
	file := filepath.Join(scratch, "disk")
	if err := fill(file); err != nil {
		return "", fmt.Errorf("make %s: %w", kind, err)
	}
	return path, os.Rename(file, path)
}

// digest covers the recipe, and of each path the names, modes and contents below it.
func digest(recipe any, paths []string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%d %#v\n", version, recipe)
	for _, root := range paths {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			fmt.Fprintf(h, "%q %v", name, info.Mode())
			switch {
			case info.IsDir():
				fmt.Fprintln(h)
				return nil
			case !info.Mode().IsRegular():
				return fmt.Errorf("%s is neither a file nor a directory: a store holds nothing else", path)
			}
			fmt.Fprintf(h, " %d\n", info.Size())
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(h, f)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:12]), nil
}
