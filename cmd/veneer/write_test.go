//go:build !onboard

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriteToAFileThatIsThereTakesYes(t *testing.T) {
	noTerminal(t)
	dir := t.TempDir()
	image, to := filepath.Join(dir, "image"), filepath.Join(dir, "to")
	content := bytes.Repeat([]byte("sector, "), 64<<10)
	if err := os.WriteFile(image, content, 0o644); err != nil {
		t.Fatal(err)
	}
	holds := func(want []byte) {
		t.Helper()
		if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, want) {
			t.Errorf("it holds %d bytes, %v; want %d", len(got), err, len(want))
		}
	}
	if code, out := ask(t, "write", "--file", image, to); code != 0 {
		t.Errorf("to a new file: %d, %s", code, out)
	}
	holds(content)
	if err := os.WriteFile(to, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, out := ask(t, "write", "--file", image, to); code != 2 || !strings.Contains(out, "--yes") {
		t.Errorf("to a file that is there: %d, %s", code, out)
	}
	holds([]byte("precious"))
	if code, out := ask(t, "write", "--yes", "--file", image, to); code != 0 || strings.Contains(out, "taken out") {
		t.Errorf("with --yes: %d, %s", code, out)
	}
	holds(content)
}
