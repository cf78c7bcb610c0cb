package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"veneer/images"
	"veneer/stage"
)

// blessedMachine is the root of a machine whose store is a file system that is mounted read-only, as the init leaves it.
func blessedMachine(t *testing.T) (root, file string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root: sudo go test ./cmd/veneer")
	}
	root = t.TempDir()
	at := filepath.Join(root, stage.StoreDir)
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	if err := os.Mkdir(filepath.Join(at, "veneer"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME, ""); err != nil {
		t.Fatal(err)
	}
	return root, filepath.Join(at, "veneer", images.EpochPath())
}

func blessedRecord(epoch uint64) *stage.Record {
	return &stage.Record{Store: stage.Store{Dir: "veneer"}, Deployment: stage.Deployment{Epoch: epoch}, Verified: stage.Verified{Manifest: true}}
}

func TestABlessKeepsTheEpochInAStoreThatIsReadOnlyBeforeAndAfter(t *testing.T) {
	root, file := blessedMachine(t)
	for _, step := range []struct {
		epoch uint64
		dry   bool
		want  string
	}{{0, false, ""}, {3, true, ""}, {3, false, "3\n"}, {5, false, "5\n"}, {4, false, "5\n"}} { // the last: a record that knew nothing of 5
		e := raiseEpoch(root, blessedRecord(step.epoch), step.dry)
		if len(e.Lost) > 0 || e.Raised != (step.epoch > 0) {
			t.Errorf("epoch %d: %+v", step.epoch, e)
		}
		if got, _ := os.ReadFile(file); string(got) != step.want {
			t.Errorf("behind a bless of epoch %d the store keeps %q, want %q", step.epoch, got, step.want)
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(file), "x"), nil, 0o644); err == nil {
			t.Error("the store is writable behind a bless")
		}
	}
}

func TestABlessOfWhatNobodyVouchesForRaisesNothing(t *testing.T) {
	root, file := blessedMachine(t)
	r := blessedRecord(3)
	r.Verified.Manifest = false
	if e := raiseEpoch(root, r, false); e.Raised || !strings.Contains(e.text(), "nobody vouches") {
		t.Errorf("%+v", e)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the store keeps an epoch")
	}
}

func TestAnEpochThatCannotBeKeptIsToldWithThePlace(t *testing.T) {
	root := t.TempDir() // there is no store at all
	e := raiseEpoch(root, blessedRecord(3), false)
	if len(e.Lost) != 1 || !strings.Contains(e.text(), "could not be kept in the store: ") {
		t.Errorf("%+v", e)
	}
}
