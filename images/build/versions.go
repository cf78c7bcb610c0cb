package build

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"veneer/images"
	"veneer/initramfs"
)

// versionFlag is what makes a program tell its version.
var versionFlag = map[string]string{"mksquashfs": "-version", "mkfs.erofs": "-V", initramfs.Compressor: "--version"}

// compressor is the library with which a program compresses.
var compressor = map[string]string{"mksquashfs": "libzstd", "mkfs.erofs": "liblz4"}

// versionNumber finds a version in a program's own words.
var versionNumber = regexp.MustCompile(`\d+(\.\d+)+[-+~.0-9A-Za-z]*`)

// toolVersions tells which programs, and which of their libraries, shape the bytes of an image.
func toolVersions(ctx context.Context, program string) ([]images.Tool, error) {
	name := filepath.Base(program)
	// Some print their version where they complain, and some fail while they do.
	out, err := exec.CommandContext(ctx, program, versionFlag[name]).Output()
	version := versionNumber.Find(firstLine(out))
	if version == nil {
		return nil, fmt.Errorf("%s %s tells no version (%v): it says %q", name, versionFlag[name], err, firstLine(out))
	}
	tools := []images.Tool{{Name: name, Version: string(version)}}
	if v := libraryVersion(program, compressor[name]); v != "" {
		tools = append(tools, images.Tool{Name: compressor[name], Version: v})
	}
	return tools, nil
}

func firstLine(b []byte) []byte {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return line
}

// libraryVersion tells the version of a shared library that a program is linked with, by the name of the file that the
// library's link leads to; "" where it cannot be told.
func libraryVersion(program, library string) string {
	f, err := elf.Open(program)
	if err != nil {
		return ""
	}
	defer f.Close()
	needed, err := f.ImportedLibraries()
	if err != nil {
		return ""
	}
	i := slices.IndexFunc(needed, func(s string) bool { return strings.HasPrefix(s, library+".so") })
	if i < 0 {
		return ""
	}
	for _, pattern := range []string{"/usr/local/lib", "/usr/lib/*-linux-gnu*", "/lib/*-linux-gnu*", "/usr/lib64", "/lib64", "/usr/lib", "/lib"} {
		found, _ := filepath.Glob(filepath.Join(pattern, needed[i]))
		for _, path := range found {
			lib, err := elf.Open(path)
			if err != nil {
				continue
			}
			same := lib.Machine == f.Machine && lib.Class == f.Class
			lib.Close()
			file, err := filepath.EvalSymlinks(path)
			if _, version, ok := strings.Cut(filepath.Base(file), ".so."); err == nil && same && ok {
				return version
			}
		}
	}
	return ""
}

// shapers are the tools whose versions shape every block of an image. The others are recorded only: an initramfs is fetched
// whole anyway, and a release of veneer that changes the images of an unchanged tree says so itself.
var shapers = map[string]bool{"mksquashfs": true, "libzstd": true, "mkfs.erofs": true, "liblz4": true}

// changedTools compares the tools with those of the release before.
func changedTools(before, now []images.Tool) []string {
	var warnings []string
	for _, tool := range now {
		if !shapers[tool.Name] {
			continue
		}
		i := slices.IndexFunc(before, func(t images.Tool) bool { return t.Name == tool.Name })
		if i >= 0 && before[i].Version != tool.Version {
			warnings = append(warnings, fmt.Sprintf("%s was %s for the previous release and is %s now: most blocks of the images will differ, and an update fetches nearly all of them; build with the same version unless the update is to be a large one",
				tool.Name, before[i].Version, tool.Version))
		}
	}
	return warnings
}

// previousManifest reads the manifest of the release before: the one that was named, else the one that this build replaces;
// nil where there is none. A broken one of ours that would be replaced is a warning. One that is not ours is an error, whatever
// was named: nobody asked for its end.
func previousManifest(named, out string) (*images.Manifest, []string, error) {
	before, warnings, err := replacedManifest(out)
	if err != nil || named == "" {
		return before, warnings, err
	}
	m, err := readManifest(named)
	if err != nil {
		return nil, nil, fmt.Errorf("previous release: %w", err)
	}
	return &m, nil, nil
}

// replacedManifest reads what a build into out would replace.
func replacedManifest(out string) (*images.Manifest, []string, error) {
	path := filepath.Join(out, images.ManifestName)
	info, err := os.Stat(path)
	switch {
	case err != nil: // a directory that is no directory is newStage's to tell
		return nil, nil, nil
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("%s is not a file: remove it, or choose another directory with -o", path)
	}
	m, err := readManifest(path)
	switch {
	case err == nil:
		return &m, nil, nil
	case isBuildOutput(out):
		return nil, []string{fmt.Sprintf("previous release: %v: there was nothing to compare this one with", err)}, nil
	}
	return nil, nil, fmt.Errorf("%w; it is of no build, for nothing else in %s is, and this build would replace it: remove it, or choose another directory with -o", err, out)
}

// isBuildOutput reports whether something other than a manifest in dir has the name of what builds make.
func isBuildOutput(dir string) bool {
	for _, name := range []string{outInitramfs, images.SignatureName} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	list, _ := os.ReadDir(filepath.Join(dir, "images"))
	return slices.ContainsFunc(list, func(f os.DirEntry) bool { return images.CheckID(trimImage(f.Name())) == nil })
}

// readManifest reads a manifest file; the error names it.
func readManifest(path string) (images.Manifest, error) {
	text, err := readSmall(path, images.MaxManifest)
	if err != nil {
		return images.Manifest{}, err
	}
	m, err := images.ParseManifest(text)
	if err != nil {
		return m, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// warnings compares the build with the release before.
func warnings(before *images.Manifest, now images.Manifest) []string {
	if before == nil {
		return nil
	}
	list := changedTools(before.Tools, now.Tools)
	if now.Epoch < before.Epoch {
		list = append(list, fmt.Sprintf("epoch %d is below %d of the previous release: a machine that has booted that one may refuse this one", now.Epoch, before.Epoch))
	}
	return list
}
