package vmtests

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mkfs makes a disk that holds the files below dir, and nothing but a file system.
type mkfs struct {
	name string
	disk func(t *testing.T, dir, label string) string
}

// label is what the initramfs looks for when nothing else was said.
const label = "VENEER"

// UUIDs for file systems, disks and partitions.
const (
	fsUUID   = "6b1c2f0e-9d1a-4c62-8a53-7a4f2f1f0a01"
	partUUID = "c3f6d7a2-51de-4b0b-9a6b-0d7c3f5b2e02"
	diskUUID = "0f0e0d0c-0b0a-4908-8706-050403020103"
)

// fileSystems are those on which a store can live. A squashfs has no label, so that it is asked for by its path.
var fileSystems = []mkfs{{"ext4", ext4}, {"btrfs", btrfs}, {"xfs", xfs}, {"vfat", vfat}, {"iso9660", iso9660}, {"squashfs", squashfs}}

func ext4(t *testing.T, dir, label string) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "ext4.img")
	must(t, ".", "mke2fs", "-q", "-t", "ext4", "-L", label, "-U", fsUUID, "-d", dir, img, fmt.Sprintf("%dM", mebibytes(t, dir)*5/4+8))
	return img
}

func btrfs(t *testing.T, dir, label string) string {
	t.Helper()
	img := blank(t, "btrfs.img", 256+mebibytes(t, dir))
	must(t, ".", "mkfs.btrfs", "-q", "-L", label, "--rootdir", dir, img)
	return img
}

// xfs fills the file system from a prototype, see mkfs.xfs(8).
func xfs(t *testing.T, dir, label string) string {
	t.Helper()
	img := blank(t, "xfs.img", 320+mebibytes(t, dir))
	proto := filepath.Join(t.TempDir(), "proto")
	if err := os.WriteFile(proto, []byte("/\n0 0\nd--755 0 0\n"+protoEntries(t, dir)+"$\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, ".", "mkfs.xfs", "-q", "-L", label, "-p", proto, img)
	return img
}

func protoEntries(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() {
			text.WriteString(e.Name() + " d--755 0 0\n" + protoEntries(t, path) + "$\n")
			continue
		}
		text.WriteString(e.Name() + " ---644 0 0 " + path + "\n")
	}
	return text.String()
}

func vfat(t *testing.T, dir, label string) string {
	t.Helper()
	img := blank(t, "vfat.img", 40+mebibytes(t, dir))
	must(t, ".", "mkfs.vfat", "-F", "32", "-n", label, img)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		must(t, ".", "mcopy", "-Q", "-s", "-i", img, filepath.Join(dir, e.Name()), "::")
	}
	return img
}

func iso9660(t *testing.T, dir, label string) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "store.iso")
	must(t, ".", "xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", label, "-o", img, dir)
	return img
}

func squashfs(t *testing.T, dir, _ string) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "store.sqfs")
	must(t, ".", "mksquashfs", dir, img, "-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level", "1")
	return img
}

// partition puts a file system into the second partition of a GPT disk, behind an empty one.
func partition(t *testing.T, fsImage, name string) string {
	t.Helper()
	const sectors = 2048 // in a MiB
	content := read(t, fsImage)
	mib := (len(content) + 1<<20 - 1) >> 20
	img := blank(t, "gpt.img", mib+4)
	table := filepath.Join(t.TempDir(), "table")
	text := fmt.Sprintf("label: gpt\nlabel-id: %s\nstart=%d, size=%d, name=\"empty\"\nstart=%d, size=%d, name=\"%s\", uuid=%s\n",
		diskUUID, sectors, sectors, 2*sectors, mib*sectors, name, partUUID)
	if err := os.WriteFile(table, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, ".", "sh", "-c", `exec sfdisk --quiet "$1" <"$2"`, "sh", img, table)
	f, err := os.OpenFile(img, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(content, 2<<20); err != nil {
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

// mebibytes is what the files below dir take, rounded up.
func mebibytes(t *testing.T, dir string) int {
	t.Helper()
	var total int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		total += info.Size()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return int(total>>20) + 1
}
