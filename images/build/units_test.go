package build

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheUnitsAreUnderstood lets systemd itself read them, where it is here.
func TestTheUnitsAreUnderstood(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not here: install systemd to have the units checked")
	}
	dir := t.TempDir()
	args := []string{"verify", "--man=no"}
	for _, u := range onBoardUnits {
		file := filepath.Join(dir, u.name)
		// The program need not be on the build host.
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(u.text, "/usr/bin/veneer", "/bin/true")), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, file)
	}
	out, err := exec.Command(analyze, args...).CombinedOutput()
	for _, line := range strings.Split(string(out), "\n") {
		if strings.Contains(line, dir) || strings.Contains(line, "veneer-") {
			t.Errorf("systemd-analyze: %s", line)
		}
	}
	if err != nil {
		t.Logf("systemd-analyze: %v\n%s", err, out)
	}
}
