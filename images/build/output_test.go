package build

import (
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOutputsHaveTheSameModesUnderAnyUmask(t *testing.T) {
	for _, kind := range []string{Squashfs, Erofs} {
		t.Run(kind, func(t *testing.T) {
			p := newProject(t, "filesystem.type = \""+kind+"\"\n")
			if kind == Erofs {
				if _, err := findTool("mkfs.erofs"); err != nil {
					t.Skip(err)
				}
			}
			old := syscall.Umask(0)
			defer syscall.Umask(old)
			for _, umask := range []int{0o077, 0o027, 0} {
				syscall.Umask(umask)
				out := p.build(t, nil)
				want := map[string]string{"images": "drwxr-xr-x"}
				for name := range files(t, out) {
					want[name] = "-rw-r--r--"
				}
				if _, ok := want[outStore]; !ok || len(want) != 8 {
					t.Fatalf("the output is %v", want)
				}
				if diff := cmp.Diff(want, modes(t, out)); diff != "" {
					t.Errorf("under umask %03o (-want +got):\n%s", umask, diff)
				}
			}
		})
	}
}

// modes tells the modes of all that lies below dir.
func modes(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err == nil {
			found[strings.TrimPrefix(path, dir+"/")] = info.Mode().String()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
