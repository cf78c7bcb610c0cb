package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAStoreImageThatIsNoneIsNamedForWhatItIs(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		want    string
	}{
		"junk":       {strings.Repeat("junk", 5000), "want an ext4 file system with the store in it, and"},
		"nothing":    {"", "is an empty file"},
		"a manifest": {"{}", "it is manifest"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), storeImageFile)
			if err := os.WriteFile(path, []byte(c.content), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := isExt4(path); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("isExt4() = %v, want %q", err, c.want)
			}
		})
	}
	if _, err := DetectKind(filepath.Join(t.TempDir(), storeImageFile)); err == nil || !strings.Contains(err.Error(), "want a build output, a store") {
		t.Errorf("DetectKind() of an absent file = %v, want what was expected", err)
	}
}

// e2fsck passes both, and the kernel mounts neither.
func TestAStoreImageThatWasCutOffIsBad(t *testing.T) {
	for _, kind := range []string{"ext4", "ext2"} {
		image := ext4Image(t, kind, nil)
		offset := filepath.Join(t.TempDir(), "disk")
		write(t, offset, strings.Repeat("\x00", 4096)+string(read(t, image)))
		for _, name := range []string{image, offset + "?offset=4096"} {
			if err := wholeExt4(name); err != nil {
				t.Errorf("%s, whole: %v", kind, err)
			}
		}
		for file, size := range map[string]int64{image: 16 << 20, offset: 32<<20 + 4095} {
			if err := os.Truncate(file, size); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{image, offset + "?offset=4096"} {
			v := verifier{}
			v.fsck(t.Context(), name, "store.img as ext4")
			if err := v.Err(); err == nil || !strings.Contains(err.Error(), "was cut off: its file system has 32768 blocks of 1024 bytes") {
				t.Errorf("%s %s, cut off: %v", kind, name, err)
			}
		}
	}
}

func TestADirectoryForScratchFilesThatIsNotThereIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Join(t.TempDir(), "none"), file} {
		if err := checkScratch(dir); err == nil || !strings.Contains(err.Error(), "set TMPDIR") {
			t.Errorf("checkScratch(%s) = %v, want the remedy", dir, err)
		}
	}
	if err := checkScratch(t.TempDir()); err != nil {
		t.Error(err)
	}
}
