package build

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"veneer/images/disk"
)

// GenerateSecureBootKeys writes the keys of Secure Boot to a directory, which is made, and returns the names of the files. Keys that are
// there already are never replaced: machines that trust them would be lost.
func GenerateSecureBootKeys(dir string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keys of Secure Boot: %w", err)
	}
	files, err := disk.SecureBootKeys(filepath.Base(dir))
	if err != nil {
		return nil, fmt.Errorf("keys of Secure Boot: %w", err)
	}
	names := slices.Sorted(maps.Keys(files))
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("keys of Secure Boot: %s is there already: name another directory", filepath.Join(dir, name))
		}
	}
	for _, name := range names {
		mode := fs.FileMode(0o644)
		if strings.HasSuffix(name, ".key") {
			mode = 0o600
		}
		if err := writeNew(filepath.Join(dir, name), files[name], mode); err != nil {
			return nil, fmt.Errorf("keys of Secure Boot: %w", err)
		}
	}
	return names, syncFile(dir)
}

func writeNew(path string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, closeSynced(f))
}
