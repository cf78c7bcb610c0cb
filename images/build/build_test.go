package build

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"veneer/boot"
	"veneer/images"
)

// testKernel is the beginning of an x86 kernel image, from the kernel's Documentation/arch/x86/boot.rst.
func testKernel() []byte {
	image := make([]byte, 0x400)
	copy(image[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(image[0x20e:], 0x80)
	binary.LittleEndian.PutUint16(image[0x236:], 1)
	copy(image[0x280:], "6.1.0-test (builder@host) #1 SMP")
	return image
}

// project is a directory with a veneer.toml and all that it names.
type project struct{ dir string }

func newProject(t *testing.T, more string) project {
	t.Helper()
	p := project{t.TempDir()}
	for _, name := range []string{"mksquashfs", "mke2fs", "debugfs"} {
		if _, err := findTool(name); err != nil {
			t.Skip(err)
		}
	}
	if _, err := GenerateKey(KeySpec{Path: filepath.Join(p.dir, "test.key")}); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(p.dir, "kernel"), string(testKernel()))
	for path, content := range map[string]string{
		"usr/bin/tool": "#!/bin/sh\n", "usr/bin/other": "#!/bin/sh\n", "etc/hostname": "test\n", "usr/lib/big": strings.Repeat("0123456789", 40000),
		"var/lib/dpkg/info/b.list": "/.\n/bin/tool\n", "var/lib/dpkg/info/a:amd64.list": "/.\n/bin/other\n/usr/lib/big\n/etc/hostname\n",
	} {
		path = filepath.Join(p.dir, "tree", path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, path, content)
	}
	for _, name := range []string{"bin", "sbin"} {
		if err := os.Symlink("usr/bin", filepath.Join(p.dir, "tree", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(p.dir, "tree/usr/bin/init"), elfProgram(elf.EM_X86_64, ""), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(p.dir, "layer/opt"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(p.dir, "layer/opt/app"), "app")
	age(t, p.dir)
	write(t, filepath.Join(p.dir, "veneer.toml"), `
name = "test"
version = "1.2"
epoch = 3
source = "tree"
tools = false
layers = [{name = "app", source = "layer"}]
kernel = {from = "kernel"}
keys = {secret = "test.key"}
filesystem.level = 1
`+more)
	return p
}

// age gives every file below dir a time that has passed.
func age(t *testing.T, dir string) {
	t.Helper()
	when := time.Unix(1700000000, 0)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		return os.Chtimes(path, when, when)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// spec is what `veneer build` makes of a project.
func (p project) spec(t *testing.T, out string) Spec {
	t.Helper()
	c, err := Load(filepath.Join(p.dir, "veneer.toml"))
	if err != nil {
		t.Fatal(err)
	}
	return Spec{Config: c, Out: out, init: []byte("the init")}
}

func (p project) build(t *testing.T, change func(*Spec)) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	spec := p.spec(t, out)
	if change != nil {
		change(&spec)
	}
	if _, err := Build(context.Background(), spec); err != nil {
		t.Fatal(err)
	}
	return out
}

// files reads all files below dir.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		found[rel] = read(t, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestABuildIsWhatVerifyAccepts(t *testing.T) {
	p := newProject(t, "")
	out := p.build(t, nil)
	v, err := Verify(context.Background(), VerifySpec{Path: out})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Err(); err != nil {
		t.Error(err)
	}
	m, err := images.ParseManifest(read(t, filepath.Join(out, images.ManifestName)))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Images) != 2 || m.Images[0].Role != images.RoleBase || m.Images[1].Name != "app" || m.Kernel.Release != "6.1.0-test" {
		t.Errorf("manifest = %+v", m)
	}
	var tools []string
	for _, tool := range m.Tools {
		tools = append(tools, tool.Name)
		if tool.Name == "veneer" && tool.Version != boot.Version {
			t.Errorf("manifest names veneer %s, want %s", tool.Version, boot.Version)
		}
	}
	if diff := cmp.Diff([]string{"libzstd", "mksquashfs", "veneer", "zstd"}, tools); diff != "" {
		t.Errorf("tools in the manifest (-want +got):\n%s", diff)
	}
}

func TestAStoreHoldsTheDeployment(t *testing.T) {
	p := newProject(t, "")
	out := p.build(t, nil)
	store := filepath.Join(out, outStore)
	run(t, "e2fsprogs", "e2fsck", "-fn", store)
	dump := t.TempDir()
	run(t, "e2fsprogs", "debugfs", "-R", "rdump /veneer "+dump, store)
	want := map[string][]byte{"veneer/default": []byte("1\n")}
	for name, content := range files(t, out) {
		switch filepath.Base(name) {
		case images.ManifestName, images.SignatureName:
			want["veneer/deployments/1/"+name] = content
		default:
			if strings.HasPrefix(name, "images/") {
				want["veneer/"+name] = content
			}
		}
	}
	if diff := cmp.Diff(want, files(t, dump)); diff != "" {
		t.Errorf("store (-want +got):\n%s", diff)
	}
}

func TestASecondBuildReplacesTheFirst(t *testing.T) {
	p := newProject(t, "")
	out := p.build(t, nil)
	write(t, filepath.Join(out, "mine"), "not of a build")
	write(t, filepath.Join(p.dir, "tree/etc/hostname"), "changed\n")
	spec := p.spec(t, out)
	spec.Config.Outputs = nil
	report, err := Build(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for name := range files(t, out) {
		got = append(got, name)
	}
	want := append([]string{"mine"}, report.Files...)
	for _, img := range report.Manifest.Images {
		want = append(want, "images/"+img.ID+".img")
	}
	if diff := cmp.Diff(sorted(want), sorted(got)); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func sorted(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }

func TestABuildThatIsStoppedLeavesNothing(t *testing.T) {
	p := newProject(t, "filesystem.block-size = \"1M\"\n")
	old := p.build(t, nil)
	write(t, filepath.Join(p.dir, "tree/large"), string(noise(32<<20)))
	for name, out := range map[string]string{"in a new directory": filepath.Join(t.TempDir(), "out"), "over a former build": old} {
		t.Run(name, func(t *testing.T) {
			before := map[string][]byte{}
			if out == old {
				before = files(t, out)
			}
			ctx, cancel := context.WithCancel(context.Background())
			spec := p.spec(t, out)
			spec.Config.FileSystem.Level = 22
			// mksquashfs takes seconds for so much at this level; it is in the midst of it when it is stopped.
			spec.Progress = NewProgress(writerFunc(func() { time.AfterFunc(300*time.Millisecond, cancel) }), true)
			start := time.Now()
			if _, err := Build(ctx, spec); !errors.Is(err, context.Canceled) {
				t.Fatalf("Build() = %v, want it to be stopped", err)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("it took %v to stop", took)
			}
			if _, err := os.Stat(out); out != old && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is still there: %v", out, err)
			}
			if out == old && !maps.EqualFunc(before, files(t, out), bytes.Equal) {
				t.Error("the former build was changed")
			}
		})
	}
}

// noise is what no compressor makes smaller, the same each time.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}

type writerFunc func()

func (w writerFunc) Write(b []byte) (int, error) { w(); return len(b), nil }

func TestAFullDiskIsOneClearError(t *testing.T) {
	needRoot(t)
	p := newProject(t, "")
	write(t, filepath.Join(p.dir, "tree/noise"), string(noise(1<<20)))
	for name, size := range map[string]string{"while images are made": "64k", "while the store is made": "1600k"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			run(t, "mount", "mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir)
			t.Cleanup(func() {
				if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
					t.Errorf("umount: %v: %s", err, out)
				}
			})
			out := filepath.Join(dir, "out")
			_, err := Build(context.Background(), p.spec(t, out))
			if err == nil || !strings.HasPrefix(err.Error(), "no space left in "+out+": about ") {
				t.Errorf("Build() = %v", err)
			}
			if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is still there: %v", out, err)
			}
		})
	}
}
