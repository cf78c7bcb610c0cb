package vmtests

import (
	"os"
	"path/filepath"
	"testing"

	"veneer/vmtests/disks"
)

// mkfs makes a disk that holds the files below dir, and nothing but a file system.
type mkfs struct {
	name string
	disk func(t *testing.T, dir, label string) string
}

// label is what the initramfs looks for when nothing else was said.
const label = "VENEER"

// UUIDs for file systems and partitions.
const (
	fsUUID   = "6b1c2f0e-9d1a-4c62-8a53-7a4f2f1f0a01"
	partUUID = "c3f6d7a2-51de-4b0b-9a6b-0d7c3f5b2e02"
)

// fileSystems are those on which a store can live. A squashfs has no label, so that it is asked for by its path.
var fileSystems = allFileSystems()

func allFileSystems() (all []mkfs) {
	for _, kind := range disks.Types() {
		all = append(all, mkfs{kind, func(t *testing.T, dir, label string) string {
			t.Helper()
			if kind == "squashfs" {
				label = ""
			}
			return disk(t, disks.FileSystem{Type: kind, Label: label}, dir)
		}})
	}
	return all
}

func ext4(t *testing.T, dir, label string) string {
	t.Helper()
	return disk(t, disks.FileSystem{Type: "ext4", Label: label, UUID: fsUUID}, dir)
}

func iso9660(t *testing.T, dir, label string) string {
	t.Helper()
	return disk(t, disks.FileSystem{Type: "iso9660", Label: label}, dir)
}

func disk(t *testing.T, f disks.FileSystem, dir string) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), f.Type+".img")
	if err := f.Make(t.Context(), dir, img); err != nil {
		t.Fatal(err)
	}
	return img
}

// partition puts a file system into the second partition of a GPT disk, behind an empty one.
func partition(t *testing.T, fsImage, name string) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "gpt.img")
	err := disks.Partition(img, disks.Part{Name: "empty", Image: blank(t, "empty.img", 1)}, disks.Part{Name: name, GUID: partUUID, Image: fsImage})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// blank makes a sparse file.
func blank(t *testing.T, name string, mebibytes int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(mebibytes)<<20); err != nil {
		t.Fatal(err)
	}
	return path
}
