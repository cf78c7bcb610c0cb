// Command release builds what the veneer command carries for each architecture, into initramfs/prebuilt: the init, the
// on-board command and the rescue tools. It needs the Go toolchain and the zstd program; 'make prebuilt' runs it in the root of
// the module.
//
//	release [ARCH ...]
//
// What did not change is left alone, so that a second run takes as long as go build does when it has nothing to do. Each file
// appears whole, by rename: another build may embed them at this very moment.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"

	"github.com/u-root/mkuimage/cpio"

	"veneer/initramfs"
)

// level is zstd's best that needs no more memory at boot than the kernel has anyway. The result is packed once and unpacked on
// each machine.
const level = "-19"

// Where the results go, and where they are made: a folder that git and go pass over, on the same file system.
const (
	prebuilt = "initramfs/prebuilt"
	scratch  = "bin"
)

func main() {
	flag.Parse()
	archs := flag.Args()
	if len(archs) == 0 {
		archs = []string{"amd64", "arm64"}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for _, arch := range archs {
		if err := release(ctx, arch, filepath.Join(prebuilt, arch)); err != nil {
			fmt.Fprintf(os.Stderr, "release: %v\n", err)
			stop()
			os.Exit(1)
		}
	}
}

// release builds everything for one architecture.
func release(ctx context.Context, arch, dir string) error {
	if _, err := os.Stat("go.mod"); err != nil {
		return fmt.Errorf("run this in the root of the module: %w", err)
	}
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(scratch, 0o755)); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp(scratch, "release-")
	if err != nil {
		return err
	}
	if scratch, err = filepath.Abs(scratch); err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	s := shelf{dir: dir, scratch: scratch}

	for _, v := range initramfs.Variants {
		init, err := program(ctx, arch, "./initramfs/init", filepath.Join(scratch, "init"), small(v)...)
		if err != nil {
			return err
		}
		archive, err := archiveOf(ctx, cpio.StaticRecord(init, cpio.Info{Name: "init", Mode: cpio.S_IFREG | 0o755}))
		if err != nil {
			return err
		}
		if err := s.store(ctx, v.Archive(), archive); err != nil {
			return err
		}
	}
	command, err := program(ctx, arch, "./cmd/veneer", filepath.Join(scratch, "veneer"), "-tags", "onboard")
	if err != nil {
		return err
	}
	if err := s.store(ctx, "veneer", command); err != nil {
		return err
	}
	return rescue(ctx, arch, s)
}

// small makes PID 1 smaller by a tenth: portable code in place of one in assembler for each kind of CPU, and no inlining but in the curve,
// where each product of two field elements would else be a call; functions that begin at 4 bytes, and not at 32. PID 1 checks one signature and is gone; a few milliseconds
// there are less than what unpacking the difference costs.
func small(v initramfs.Variant) []string {
	return []string{"-tags", "purego," + v.Tag(), "-gcflags=all=-l", "-gcflags=filippo.io/edwards25519/...=",
		"-ldflags", "-s -w -buildid= -funcalign=4"} // the last -ldflags count
}

// program builds one static program without anything in it that differs from machine to machine.
func program(ctx context.Context, arch, pkg, file string, args ...string) ([]byte, error) {
	argv := append([]string{"build", "-p", "2", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", file}, args...)
	cmd := exec.CommandContext(ctx, "go", append(argv, pkg)...)
	// The older collector is smaller too, and PID 1 hardly ever collects.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOEXPERIMENT=nogreenteagc")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("build %s for %s: %w", pkg, arch, err)
	}
	return os.ReadFile(file)
}

func archiveOf(ctx context.Context, records ...cpio.Record) ([]byte, error) {
	var b bytes.Buffer
	err := initramfs.WriteArchive(ctx, &b, records)
	return b.Bytes(), err
}

// shelf is a folder of packed files, each with a key that tells what it was made from.
type shelf struct{ dir, scratch string }

// store packs content, unless the file was made from the same content before.
func (s shelf) store(ctx context.Context, name string, content []byte) error {
	return s.storeFor(ctx, name, hash(content), func() ([]byte, error) { return content, nil })
}

// storeFor packs what content returns, unless the file was made for the same key before.
func (s shelf) storeFor(ctx context.Context, name, key string, content func() ([]byte, error)) error {
	packed, keyFile := filepath.Join(s.dir, name+".zst"), filepath.Join(s.dir, name+".key")
	if old, err := os.ReadFile(keyFile); err == nil && string(old) == key+"\n" {
		if _, err := os.Stat(packed); err == nil {
			return nil
		}
	}
	if err := os.RemoveAll(keyFile); err != nil { // first, so that a cut run never leaves an old file with a new key
		return err
	}
	plain, err := content()
	if err != nil {
		return err
	}
	raw, fresh := filepath.Join(s.scratch, name), filepath.Join(s.scratch, name+".zst")
	if err := os.WriteFile(raw, plain, 0o644); err != nil {
		return err
	}
	// From a file, not from a pipe: then the frame begins with its size.
	cmd := exec.CommandContext(ctx, "zstd", "-q", "-f", level, "--no-check", raw, "-o", fresh)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("pack %s: %w; is zstd installed?", name, err)
	}
	info, err := os.Stat(fresh)
	if err != nil {
		return err
	}
	if err := os.Rename(fresh, packed); err != nil {
		return err
	}
	fmt.Printf("%s: %d bytes, packed from %d\n", packed, info.Size(), len(plain))
	return writeKey(s.scratch, keyFile, key)
}

func writeKey(scratch, file, key string) error {
	fresh := filepath.Join(scratch, "key")
	if err := os.WriteFile(fresh, []byte(key+"\n"), 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, file)
}

func hash(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
