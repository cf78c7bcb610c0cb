package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/mkuimage/cpio"
)

var tools = []cpio.Record{cpio.StaticFile("bbin/bb", "a program", 0o755), cpio.Symlink("bbin/init", "bb")}

func TestTheBaseHoldsWhatAnInitNeeds(t *testing.T) {
	var b bytes.Buffer
	if err := write(&b, tools); err != nil {
		t.Fatal(err)
	}
	type file struct {
		Type byte
		Mode int64
		Link string
	}
	got := map[string]file{}
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 0 {
			t.Errorf("%s: owner %d:%d, time %v, want none of them", h.Name, h.Uid, h.Gid, h.ModTime)
		}
		got[h.Name] = file{h.Typeflag, h.Mode, h.Linkname}
	}
	for name, want := range map[string]file{
		"./":           {tar.TypeDir, 0o755, ""},
		"proc/":        {tar.TypeDir, 0o555, ""},
		"tmp/":         {tar.TypeDir, 0o1777, ""},
		"sbin":         {tar.TypeSymlink, 0o777, "usr/bin"},
		"usr/bin/bb":   {tar.TypeReg, 0o755, ""},
		"usr/bin/init": {tar.TypeSymlink, 0o777, "bb"},
	} {
		if diff := cmp.Diff(want, got[name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestTheArchiveAppearsWhole(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "small.tar")
	first := make([][]byte, 2)
	for i := range first {
		if err := writeFile(out, tools); err != nil {
			t.Fatal(err)
		}
		var err error
		if first[i], err = os.ReadFile(out); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first[0], first[1]) {
		t.Error("two archives of the same commands differ")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("in the directory: %v, %v, want the archive alone", left, err)
	}
}
