package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"veneer/images"
)

// setFiles are the files of a set for a BIOS, and of one whose installation was cut off.
var setFiles = []string{outKernel, outInitramfs, ".new-" + outKernel, ".new-" + outInitramfs}

// lookAtSets finds the sets for a BIOS. Only what looks like one in all is counted, and may be removed.
func (e *renewal) lookAtSets() error {
	dirs, err := os.ReadDir(filepath.Join(e.files.Root, biosDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, d := range dirs {
		name := path.Join(biosDir, d.Name())
		if d.Name() == path.Dir(images.DeploymentPath("1")) || d.Name() == path.Dir(images.ImagePath("1")) {
			return fmt.Errorf("it holds %s of a store, and is no EFI system partition of ours", name)
		}
		if len(d.Name()) != 12 || strings.Trim(d.Name(), "0123456789abcdef") != "" || !d.IsDir() {
			continue
		}
		files, lerr := os.ReadDir(filepath.Join(e.files.Root, name))
		if lerr != nil {
			return lerr
		}
		if !slices.ContainsFunc(files, func(f fs.DirEntry) bool { return !f.Type().IsRegular() || !slices.Contains(setFiles, f.Name()) }) {
			e.sets = append(e.sets, name)
		}
	}
	return err
}

// isESP tells a FAT file system that was made for other things: an EFI system partition is empty, or something starts from it.
func (e *renewal) isESP() error {
	list, err := os.ReadDir(e.files.Root)
	if err != nil || len(list) == 0 || e.bios != nil {
		return err
	}
	if info, err := os.Stat(filepath.Join(e.files.Root, "EFI")); err == nil && info.IsDir() {
		return nil
	}
	return fmt.Errorf("it holds %s and no directory EFI, and firmware starts nothing from it: make the directory if that is to change", count(int64(len(list)), "thing"))
}
