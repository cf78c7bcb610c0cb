package vmtests

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// recipe is a veneer.toml and the files that it names.
type recipe struct {
	name  string
	toml  string
	files map[string]string // as the toml names them -> where they lie
}

// keptOutputs bounds the outputs of one recipe in the cache: the present one, and those that other checkouts use.
const keptOutputs = 3

// outputOf returns the output of `veneer build` for a recipe. It is built when the recipe, one of its files or the command has
// changed since.
func outputOf(t *testing.T, r recipe) output {
	t.Helper()
	veneer := command(t)
	dir := shared.make(t, r.name, func() (string, error) { return r.build(context.Background(), veneer) })
	return output{dir: filepath.Join(dir, "out"), key: testKey(t, "test")}
}

func (r recipe) build(ctx context.Context, veneer string) (string, error) {
	key, err := r.digest(veneer)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(shared.cache, "vmtests", r.name+"-"+key)
	if _, err := os.Stat(dir); err == nil {
		now := time.Now()
		return dir, os.Chtimes(dir, now, now)
	}
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return "", err
	}
	if err := os.MkdirAll(part, 0o755); err != nil {
		return "", err
	}
	for name, path := range r.files {
		if err := os.Symlink(path, filepath.Join(part, name)); err != nil {
			return "", err
		}
	}
	if err := os.WriteFile(filepath.Join(part, "veneer.toml"), []byte(r.toml), 0o644); err != nil {
		return "", err
	}
	if _, err := tool(ctx, part, veneer, "build", "-f", "veneer.toml", "-o", "out"); err != nil {
		return "", err
	}
	if err := os.Rename(part, dir); err != nil {
		return "", err
	}
	return dir, r.forget()
}

// digest is a function of everything that the output depends on.
func (r recipe) digest(veneer string) (string, error) {
	sum := sha256.New()
	fmt.Fprintf(sum, "%q\n", r.toml)
	names := []string{""}
	for name := range r.files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		path := veneer
		if name != "" {
			path = r.files[name]
		}
		d, err := fileDigest(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%q %s\n", name, d)
	}
	return hex.EncodeToString(sum.Sum(nil)[:10]), nil
}

// forget removes the outputs of this recipe that were not used for longest.
func (r recipe) forget() error {
	dirs, err := filepath.Glob(filepath.Join(shared.cache, "vmtests", r.name+"-????????????????????"))
	if err != nil {
		return err
	}
	used := func(dir string) time.Time {
		info, err := os.Stat(dir)
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}
	slices.SortFunc(dirs, func(a, b string) int { return used(b).Compare(used(a)) })
	for len(dirs) > keptOutputs {
		if err := os.RemoveAll(dirs[len(dirs)-1]); err != nil {
			return err
		}
		dirs = dirs[:len(dirs)-1]
	}
	return nil
}

func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// command returns the veneer command under test: VENEER_TEST_COMMAND, or the one that is built from this tree with the
// programs that travel with it.
func command(t *testing.T) string {
	t.Helper()
	return shared.make(t, "veneer", func() (string, error) {
		if path := os.Getenv("VENEER_TEST_COMMAND"); path != "" {
			return filepath.Abs(path)
		}
		ctx := context.Background()
		if _, err := tool(ctx, shared.root, "go", "run", "./initramfs/release"); err != nil {
			return "", err
		}
		path := filepath.Join(shared.scratch, "veneer")
		_, err := tool(ctx, shared.root, "go", "build", "-trimpath", "-buildvcs=false", "-o", path, "./cmd/veneer")
		return path, err
	})
}

// testKey returns the secret key NAME.key; its public key lies beside it. It is kept, because every output depends on it.
func testKey(t *testing.T, name string) string {
	t.Helper()
	veneer := command(t)
	return shared.make(t, "key "+name, func() (string, error) {
		path := filepath.Join(shared.cache, "vmtests", name+".key")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		_, err := tool(context.Background(), shared.root, veneer, "keygen", "-o", path, "--no-passphrase")
		return path, err
	})
}

// kernelDeb returns one of Debian's kernels: cloud, or full.
func kernelDeb(t *testing.T, arch, kind string) string {
	t.Helper()
	return shared.make(t, "kernel "+kind+" "+arch, func() (string, error) {
		out, err := tool(context.Background(), shared.root, ".ci/fetch-kernel", arch, kind)
		out = strings.TrimSpace(out)
		return out[strings.LastIndexByte(out, '\n')+1:], err
	})
}

// smallTree returns the archive of the small base, u-root and nothing else. Building it takes a minute, so it is kept until
// its sources change.
func smallTree(t *testing.T, arch string) string {
	t.Helper()
	return shared.make(t, "small base "+arch, func() (string, error) {
		ctx := context.Background()
		key, err := smallKey(ctx)
		if err != nil {
			return "", err
		}
		path := filepath.Join(shared.cache, "vmtests", "base-"+arch+"-"+key+".tar")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		old, err := filepath.Glob(filepath.Join(shared.cache, "vmtests", "base-"+arch+"-*.tar"))
		if err != nil {
			return "", err
		}
		if _, err := tool(ctx, shared.root, "go", "run", "./examples/small", "-arch", arch, "-o", path); err != nil {
			return "", err
		}
		for _, o := range old {
			if err := os.Remove(o); err != nil {
				return "", err
			}
		}
		return path, nil
	})
}

// smallKey is a function of what the small base is built from: our sources, the versions of the others, the toolchain.
func smallKey(ctx context.Context) (string, error) {
	version, err := tool(ctx, shared.root, "go", "version")
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	io.WriteString(sum, version)
	paths := []string{"go.sum"}
	for _, dir := range []string{"examples/small", "initramfs/release/busybox", "initramfs/release/sh"} {
		err := fs.WalkDir(os.DirFS(shared.root), dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") {
				paths = append(paths, path)
			}
			return err
		})
		if err != nil {
			return "", err
		}
	}
	for _, path := range paths {
		d, err := fileDigest(filepath.Join(shared.root, path))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %s\n", path, d)
	}
	return hex.EncodeToString(sum.Sum(nil)[:10]), nil
}

// debianTree returns the archive of a real Debian with systemd, made once and kept.
func debianTree(t *testing.T) string {
	t.Helper()
	return shared.make(t, "Debian", func() (string, error) {
		path := filepath.Join(shared.cache, "debian-bookworm-amd64.tar")
		_, err := tool(context.Background(), shared.root, "examples/debian/tree", path)
		return path, err
	})
}

// statePackages are what a base needs for a state that is kept: the tools that the init calls, and services whose identity and
// data the cases look at.
const statePackages = "e2fsprogs,btrfs-progs,xfsprogs,dosfstools,exfatprogs,fdisk,cryptsetup-bin," +
	"libtss2-esys-3.0.2-0,libtss2-mu0,libtss2-rc0,libtss2-tcti-device0,openssh-server,cron"

// debianStateTree is debianTree with statePackages.
func debianStateTree(t *testing.T) string {
	t.Helper()
	return shared.make(t, "Debian with the tools for a state", func() (string, error) {
		sum := sha256.Sum256([]byte(statePackages))
		path := filepath.Join(shared.cache, "debian-state-"+hex.EncodeToString(sum[:4])+"-bookworm-amd64.tar")
		_, err := tool(context.Background(), shared.root, "examples/debian/tree", path, statePackages)
		return path, err
	})
}
