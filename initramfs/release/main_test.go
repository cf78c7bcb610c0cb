package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func newShelf(t *testing.T) shelf {
	t.Helper()
	if _, err := exec.LookPath("zstd"); err != nil {
		t.Skip("the zstd program is not installed: apt-get install zstd")
	}
	return shelf{dir: t.TempDir(), scratch: t.TempDir()}
}

func TestWhatDidNotChangeIsLeftAlone(t *testing.T) {
	s := newShelf(t)
	made := 0
	content := func() ([]byte, error) { made++; return []byte("a program"), nil }
	for _, key := range []string{"one", "one", "two"} {
		if err := s.storeFor(t.Context(), "init", key, content); err != nil {
			t.Fatal(err)
		}
	}
	if made != 2 {
		t.Errorf("made %d times for the keys one, one, two, want 2", made)
	}
	plain, err := exec.Command("zstd", "-dc", filepath.Join(s.dir, "init.zst")).Output()
	if err != nil || !bytes.Equal(plain, []byte("a program")) {
		t.Errorf("unpacked %q, %v", plain, err)
	}
}

func TestAFailedBuildIsMadeAgain(t *testing.T) {
	s := newShelf(t)
	if err := s.store(t.Context(), "init", []byte("old")); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("does not compile")
	if err := s.storeFor(t.Context(), "init", "new", func() ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Fatalf("storeFor() = %v, want %v", err, broken)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "init.key")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the key of the old content is still there: %v", err)
	}
}

func TestTheKeyChangesWithASource(t *testing.T) {
	file := filepath.Join(t.TempDir(), "source")
	keys := map[string]bool{}
	for _, content := range []string{"one", "two"} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		key, err := keyOf([]string{"go1"}, file)
		if err != nil {
			t.Fatal(err)
		}
		keys[key] = true
	}
	if len(keys) != 2 {
		t.Errorf("%d keys for two contents", len(keys))
	}
}
