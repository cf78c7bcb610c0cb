package images

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestStoreListsDeploymentsAndNamesTheJunk(t *testing.T) {
	store := fstest.MapFS{
		"deployments/1/manifest.json":       {Data: []byte("{}")},
		"deployments/12/x":                  {},
		"deployments/007/x":                 {},
		"deployments/0/x":                   {},
		"deployments/new-3/x":               {},
		"deployments/4":                     {Data: []byte("a file")},
		"deployments/1234567890123456789/x": {},
	}
	serials, junk, err := Deployments(store)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"1", "12"}, serials); diff != "" {
		t.Errorf("serials (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"0", "007", "1234567890123456789", "4", "new-3"}, junk); diff != "" {
		t.Errorf("junk (-want +got):\n%s", diff)
	}
}

func TestStoreWithoutDeploymentsHoldsNone(t *testing.T) {
	for name, store := range map[string]fstest.MapFS{"nothing": {}, "an empty directory": {"deployments": {Mode: fs.ModeDir}}} {
		if serials, junk, err := Deployments(store); err != nil || len(serials)+len(junk) > 0 {
			t.Errorf("Deployments of %s = %v, %v, %v", name, serials, junk, err)
		}
	}
	if _, _, err := Deployments(fstest.MapFS{"deployments": {Data: []byte("x")}}); err == nil {
		t.Error("Deployments took a file for a directory")
	}
}

func TestStoreFullOfJunkIsRefusedAfterABoundedLook(t *testing.T) {
	store := fstest.MapFS{}
	for i := range maxDeployments + 1 {
		store[fmt.Sprintf("deployments/junk-%d", i)] = &fstest.MapFile{}
	}
	if _, _, err := Deployments(store); err == nil || !strings.Contains(err.Error(), "clean it up") {
		t.Errorf("Deployments = %v", err)
	}
}

func TestDefaultIsASerialAndNothingElse(t *testing.T) {
	for text, want := range map[string]string{"1\n": "1", "42": "42", "": "", "../1\n": "", "1\n\n": "", " 1": "", "1 2\n": "", strings.Repeat("1", 65): ""} {
		got, err := Default(fstest.MapFS{"default": {Data: []byte(text)}})
		if (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("Default of %q = %q, %v; want %q", text, got, err, want)
		}
	}
	if _, err := Default(fstest.MapFS{}); err == nil {
		t.Error("Default of an empty store is no error")
	}
}

func TestDeploymentFilesAreReadWithinLimits(t *testing.T) {
	good := fstest.MapFS{"deployments/1/manifest.json": {Data: []byte("m")}, "deployments/1/manifest.json.minisig": {Data: []byte("s")}}
	if m, s, err := ReadDeployment(good, "1"); err != nil || string(m) != "m" || string(s) != "s" {
		t.Errorf("ReadDeployment = %q, %q, %v", m, s, err)
	}
	for name, c := range map[string]struct {
		bend func(fstest.MapFS)
		want string
	}{
		"no manifest":  {func(m fstest.MapFS) { delete(m, "deployments/1/manifest.json") }, "manifest.json"},
		"no signature": {func(m fstest.MapFS) { delete(m, "deployments/1/manifest.json.minisig") }, "manifest.json.minisig"},
		"a manifest too large": {func(m fstest.MapFS) {
			m["deployments/1/manifest.json"] = &fstest.MapFile{Data: make([]byte, MaxManifest+1)}
		}, "larger than"},
		"a signature too large": {func(m fstest.MapFS) {
			m["deployments/1/manifest.json.minisig"] = &fstest.MapFile{Data: make([]byte, 1<<20)}
		}, "larger than"},
		"a manifest of a device": {func(m fstest.MapFS) { m["deployments/1/manifest.json"] = &fstest.MapFile{Mode: fs.ModeDevice} }, "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			store := fstest.MapFS{}
			for k, v := range good {
				store[k] = v
			}
			c.bend(store)
			if _, _, err := ReadDeployment(store, "1"); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("ReadDeployment = %v, want %q", err, c.want)
			}
		})
	}
}

func TestFifoInAStoreHoldsUpNobody(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "default"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Default(os.DirFS(dir)); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("Default = %v", err)
	}
}

func FuzzDefault(f *testing.F) {
	f.Add([]byte("1\n"))
	f.Add([]byte("99999999999999999999"))
	f.Add([]byte("../../etc\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		serial, err := Default(fstest.MapFS{"default": {Data: text}})
		if err == nil && strings.Trim(serial, "0123456789") != "" {
			t.Errorf("Default of %q = %q", text, serial)
		}
	})
}
