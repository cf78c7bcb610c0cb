package switchroot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"veneer/overlay/mount"
)

func TestNothingIsTouchedOutsideAnInitramfs(t *testing.T) {
	root := t.TempDir()
	keep := filepath.Join(root, "file")
	if err := os.WriteFile(keep, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	err := Switch(root, "/sbin/init", nil, nil)
	if err == nil || !strings.Contains(err.Error(), "not PID 1") {
		t.Errorf("Switch() = %v, want it refused because this is not PID 1", err)
	}
	if _, err := os.Stat(keep); err != nil {
		t.Error(err)
	}
}

func TestAMoveThatFailsTakesTheFormerOnesBack(t *testing.T) {
	root := t.TempDir()
	for _, dir := range moved {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busy := errors.New("busy")
	for k := 1; k <= len(moved); k++ {
		r := mount.Recorder{FailAt: k, Err: busy}
		if err := moveMounts(&r, root); !errors.Is(err, busy) {
			t.Errorf("move %d failed and moveMounts() = %v", k, err)
		}
		if len(r.Ops) != 2*(k-1) {
			t.Fatalf("move %d failed; %d operations, want %d moves and as many back:\n%s", k, len(r.Ops), k-1, &r)
		}
		for i := range k - 1 {
			if back := r.Ops[len(r.Ops)-1-i]; back != r.Ops[i].Undo() {
				t.Errorf("move %d failed; %s was answered by %s", k, r.Ops[i], back)
			}
		}
	}
}
