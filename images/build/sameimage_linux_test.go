package build

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestADirectoryAndItsArchivesBecomeTheSameImage(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	hardTree(t, dir)
	for _, name := range []string{"hard-fifo", "hard-char"} { // which GNU tar takes for files of their own
		if err := os.Remove(filepath.Join(dir, "links", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "names", strings.Repeat("n", 255))); err != nil { // too long for mkfs.erofs 1.5
		t.Fatal(err)
	}
	now := time.Now()
	if err := errors.Join(os.Chtimes(filepath.Join(dir, "links"), now, now), os.Chtimes(filepath.Join(dir, "names"), now, now), os.Chtimes(dir, now, now)); err != nil {
		t.Fatal(err)
	}
	sources := map[string]string{
		"an archive":                      tarOf(t, dir),
		"an archive sorted the other way": reversedTar(t, dir),
		"an archive in GNU's format":      tarOf(t, dir, "--sort=name", "--sparse"),
		"a copy in another order":         reversedCopy(t, dir),
	}
	for _, fs := range []FileSystem{quickSquashfs, quickErofs} {
		want := read(t, makeImage(t, fs, dir, nil))
		for name, source := range sources {
			t.Run(fs.Type+" of "+name, func(t *testing.T) {
				if got := read(t, makeImage(t, fs, source, nil)); !bytes.Equal(got, want) {
					t.Errorf("%s gives another image than the directory: %d bytes instead of %d", name, len(got), len(want))
				}
			})
		}
	}
}

// reversedNames lists a tree with the last name first, but directories before what is in them.
func reversedNames(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		names = append([]string{rel}, names...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "names")
	write(t, list, strings.Join(names, "\x00"))
	return list
}

func reversedTar(t *testing.T, dir string) string {
	return tarOf(t, dir, "--no-recursion", "--null", "--files-from="+reversedNames(t, dir))
}

// reversedCopy makes the files of a copy in another order, on another file system where there is one.
func reversedCopy(t *testing.T, dir string) string {
	t.Helper()
	copied, err := os.MkdirTemp("/dev/shm", "veneer-test-")
	if err != nil {
		t.Skipf("no other file system: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(copied) })
	run(t, "tar", "tar", "-xpf", reversedTar(t, dir), "--xattrs", "--xattrs-include=*", "--numeric-owner", "--delay-directory-restore", "-C", copied)
	return copied
}
