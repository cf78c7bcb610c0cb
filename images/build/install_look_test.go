package build

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"veneer/images/esp"
)

// A digit wrong in the name of a partition: nothing is written, and nothing removed.
func TestWhatIsNoSystemPartitionIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	p := mediaProject(t, "")
	old, fresh := p.release(t, "1.2"), p.release(t, "2.0")
	store := t.TempDir()
	if _, err := Install(t.Context(), InstallSpec{Output: old, Store: store, Default: true}); err != nil {
		t.Fatal(err)
	}
	photos := t.TempDir()
	write(t, filepath.Join(photos, "photo.jpg"), "photo")
	listed := func(dir string) (list []string) {
		t.Helper()
		err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
			list = append(list, name)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	for _, c := range []struct {
		name, esp string
		any       bool
		want      string
	}{
		{"the file system of the store", store, false, "lies on the file system of the store"},
		{"a directory beside it", t.TempDir(), false, "lies on the file system of the store"},
		{"a file system of the kernel's", "/proc", false, "is not on FAT"},
		{"a store, whatever it lies on", store, true, "of a store"},
		{"a medium with photos", photos, true, "no directory EFI"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := append(listed(store), listed(photos)...)
			_, err := Install(t.Context(), InstallSpec{Output: fresh, Store: store, ESP: c.esp, Default: true, anyESP: c.any})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Install() = %v, want a refusal with %q", err, c.want)
			}
			if after := append(listed(store), listed(photos)...); !slices.Equal(before, after) {
				t.Errorf("before %v, after %v", before, after)
			}
		})
	}
}

// Of the directory veneer/ only what is a set, and nothing else, makes room.
func TestOnlySetsMakeRoom(t *testing.T) {
	e := &renewal{files: esp.Files{Root: t.TempDir()}, done: Renewed{Removed: []string{}}}
	for _, name := range []string{"0123456789ab/" + outKernel, "0123456789ac/" + outKernel, "0123456789ac/letters", "0123456789ad/" + outKernel + "/x", "photos/" + outKernel} {
		at := filepath.Join(e.files.Root, biosDir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, at, "x")
	}
	write(t, filepath.Join(e.files.Root, biosDir, "0123456789ae"), "a file")
	if err := e.lookAtSets(); err != nil || !slices.Equal(e.sets, []string{"veneer/0123456789ab"}) {
		t.Errorf("lookAtSets() = %v, %v", e.sets, err)
	}
	if err := e.remove("veneer/0123456789ab"); err != nil {
		t.Error(err)
	}
	if err := e.remove("veneer/0123456789ac"); err == nil {
		t.Error("a set with letters in it is removed")
	}
	if _, err := os.Stat(filepath.Join(e.files.Root, "veneer/0123456789ab")); err == nil {
		t.Error("the set is still there")
	}
	if got := string(read(t, filepath.Join(e.files.Root, "veneer/0123456789ac/letters"))); got != "x" {
		t.Errorf("letters: %q", got)
	}
}
