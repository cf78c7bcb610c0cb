package disks

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

// makeStore is a directory in the shape of a store, with an image that is larger than one read.
func makeStore(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"veneer/default":                     []byte("1\n"),
		"veneer/deployments/1/manifest.json": []byte("{}\n"),
		"veneer/images/ab12.img":             bytes.Repeat([]byte("an image "), 20000),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// extract takes the content out of each file system again, with its own tools and without mounting it.
var extract = map[string]func(file, to string) []string{
	"ext4":  func(file, to string) []string { return []string{"debugfs", "-R", "rdump / " + to, file} },
	"btrfs": func(file, to string) []string { return []string{"btrfs", "restore", file, to} },
	"vfat":  func(file, to string) []string { return []string{"mcopy", "-s", "-i", file, "::veneer", to} },
	"iso9660": func(file, to string) []string {
		return []string{"xorriso", "-osirrox", "on", "-indev", file, "-extract", "/", to}
	},
	"squashfs": func(file, to string) []string { return []string{"unsquashfs", "-f", "-d", to, file} },
	"xfs": func(file, to string) []string {
		return []string{"sh", "-c", "mount -o loop,ro,norecovery $0 $1 && trap 'umount $1' EXIT && cp -r $1/. $2", file, to + ".mnt", to}
	},
}

func TestEachFileSystemHoldsTheFilesOfItsDirectory(t *testing.T) {
	store := makeStore(t)
	for _, kind := range Types() {
		t.Run(kind, func(t *testing.T) {
			f := FileSystem{Type: kind, Label: "VENEER"}
			if kind == "squashfs" {
				f.Label = ""
			}
			file := filepath.Join(t.TempDir(), "disk")
			if err := f.Make(context.Background(), store, file); err != nil {
				t.Fatal(err)
			}
			if got := blkid(t, file); !strings.Contains(got, "ID_FS_TYPE="+kind+"\n") || f.Label != "" && !strings.Contains(got, "ID_FS_LABEL=VENEER\n") {
				t.Errorf("blkid says\n%s", got)
			}
			if kind == "xfs" && os.Getuid() != 0 {
				t.Skip("an xfs can only be looked into by mounting it; run as root")
			}
			to := filepath.Join(t.TempDir(), "out")
			for _, dir := range []string{to, to + ".mnt"} {
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			argv := extract[kind](file, to)
			if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
			}
			same(t, store, to)
		})
	}
}

func same(t *testing.T, want, got string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(want), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		a, aerr := os.ReadFile(filepath.Join(want, name))
		b, berr := os.ReadFile(filepath.Join(got, name))
		if !bytes.Equal(a, b) {
			t.Errorf("%s: %d bytes became %d", name, len(a), len(b))
		}
		return errors.Join(aerr, berr)
	})
	if err != nil {
		t.Error(err)
	}
}

func blkid(t *testing.T, file string) string {
	t.Helper()
	out, err := exec.Command("blkid", "-p", "-o", "udev", file).Output()
	if err != nil {
		t.Fatalf("blkid %s: %v", file, err)
	}
	return string(out)
}

func TestAPartitionedDiskHasItsPartsWithTheirNames(t *testing.T) {
	const part, name = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee", `a store, with \ and ü`
	dir := t.TempDir()
	image, file := filepath.Join(dir, "image"), filepath.Join(dir, "disk")
	content := append(make([]byte, 100<<10), "behind a hole"...)
	if err := os.WriteFile(image, content, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Partition(file, Part{name, part, image}, Part{Name: "second", Image: image}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := gpt.Read(f, 512, 512)
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Partitions) < 2 || table.Partitions[0].Name != name || !strings.EqualFold(table.Partitions[0].GUID, part) || table.Partitions[1].Name != "second" {
		t.Errorf("table = %+v", table)
	}
	for _, at := range []int64{1 * mib, 2 * mib} {
		got := make([]byte, len(content))
		if _, err := f.ReadAt(got, at); err != nil || !bytes.Equal(got, content) {
			t.Errorf("the part at %d does not hold its image (%v)", at, err)
		}
	}
	if out, err := exec.Command("sfdisk", "--verify", file).CombinedOutput(); err != nil || !strings.Contains(string(out), "No errors detected") {
		t.Errorf("sfdisk --verify: %v: %s", err, out)
	}
}

func TestWhatCannotBeMadeIsRefused(t *testing.T) {
	store := makeStore(t)
	spaced := filepath.Join(t.TempDir(), "with space")
	if err := os.CopyFS(spaced, os.DirFS(store)); err != nil {
		t.Fatal(err)
	}
	linked := t.TempDir()
	if err := os.Symlink("x", filepath.Join(linked, "link")); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name, dir, says string
		f               FileSystem
	}{
		{"an unknown type", store, "want one of btrfs, ext4", FileSystem{Type: "zfs"}},
		{"a label on squashfs", store, "it has no label", FileSystem{Type: "squashfs", Label: "X"}},
		{"a UUID on ISO 9660", store, "no UUID", FileSystem{Type: "iso9660", UUID: "x"}},
		{"white space on xfs", spaced, "no names with white space", FileSystem{Type: "xfs"}},
		{"a link", linked, "neither a file nor a directory", FileSystem{Type: "ext4"}},
		{"a label that is too long", store, "mkfs.xfs", FileSystem{Type: "xfs", Label: "longer than twelve"}},
		{"a directory that is not there", store + "/none", "no such file", FileSystem{Type: "ext4"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if err := c.f.Make(context.Background(), c.dir, filepath.Join(t.TempDir(), "disk")); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Make() = %v; want an error that says %q", err, c.says)
			}
		})
	}
	file := filepath.Join(t.TempDir(), "disk")
	if err := Partition(file, Part{Image: store + "/none"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Partition() of a missing image = %v", err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Partition(file, Part{Image: empty}); err == nil || !strings.Contains(err.Error(), "partition 1: "+empty+" is empty") {
		t.Errorf("Partition() of an empty image = %v", err)
	}
}
