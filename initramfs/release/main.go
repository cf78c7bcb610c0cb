// Command release builds what the veneer command carries for each architecture, into initramfs/prebuilt: the init, the
// on-board command and the rescue tools. It needs the Go toolchain and the zstd program; 'make prebuilt' runs it in the root of
// the module.
//
//	release [-o initramfs/prebuilt] [ARCH ...]
//
// What did not change is left alone, so that a second run takes as long as go build does when it has nothing to do.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/u-root/mkuimage/cpio"

	"veneer/initramfs"
)

// level is zstd's best that needs no more memory at boot than the kernel has anyway. The result is packed once and unpacked on
// each machine.
const level = "-19"

func main() {
	out := flag.String("o", "initramfs/prebuilt", "where to write")
	flag.Parse()
	archs := flag.Args()
	if len(archs) == 0 {
		archs = []string{"amd64", "arm64"}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for _, arch := range archs {
		if err := release(ctx, arch, filepath.Join(*out, arch)); err != nil {
			fmt.Fprintf(os.Stderr, "release: %v\n", err)
			stop()
			os.Exit(1)
		}
	}
}

// release builds everything for one architecture.
func release(ctx context.Context, arch, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "veneer-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)

	init, err := program(ctx, arch, "./initramfs/init", filepath.Join(scratch, "init"), small...)
	if err != nil {
		return err
	}
	archive, err := archiveOf(ctx, cpio.StaticRecord(init, cpio.Info{Name: "init", Mode: cpio.S_IFREG | 0o755}))
	if err != nil {
		return err
	}
	if err := store(ctx, archive, filepath.Join(dir, "init.cpio.zst")); err != nil {
		return err
	}
	command, err := program(ctx, arch, "./cmd/veneer", filepath.Join(scratch, "veneer"), "-tags", "onboard")
	if err != nil {
		return err
	}
	if err := store(ctx, command, filepath.Join(dir, "veneer.zst")); err != nil {
		return err
	}
	return rescue(ctx, arch, scratch, filepath.Join(dir, "rescue.cpio.zst"))
}

// small makes PID 1 smaller by a tenth: portable ciphers in place of one in assembler for each kind of CPU, and no inlining. It
// checks one signature and is gone; a few milliseconds there are less than what unpacking the difference costs.
var small = []string{"-tags", "purego", "-gcflags=all=-l"}

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

// store writes content to file, packed, unless the file was made from the same content before.
func store(ctx context.Context, content []byte, file string) error {
	return storeFor(ctx, hash(content), file, func() ([]byte, error) { return content, nil })
}

// storeFor writes what content returns to file, packed, and key beside it. It does nothing where key is there already.
func storeFor(ctx context.Context, key, file string, content func() ([]byte, error)) error {
	keyFile := strings.TrimSuffix(file, ".zst") + ".key"
	if old, err := os.ReadFile(keyFile); err == nil && string(old) == key+"\n" {
		if _, err := os.Stat(file); err == nil {
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
	// The size comes first in the frame: zstd knows it only of a file.
	raw := file + ".raw"
	defer os.Remove(raw)
	if err := os.WriteFile(raw, plain, 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "zstd", "-q", "-f", level, "--no-check", raw, "-o", file)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("pack %s: %w; install zstd", file, err)
	}
	fmt.Printf("%s: %d bytes, packed from %d\n", file, size(file), len(plain))
	return os.WriteFile(keyFile, []byte(key+"\n"), 0o644)
}

func size(file string) int64 {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return info.Size()
}

func hash(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
