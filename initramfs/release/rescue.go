package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/u-root/mkuimage/cpio"

	"veneer/initramfs/release/busybox"
)

// rescueCommands are what a person needs to see why a boot failed, and to stop the machine.
var rescueCommands = []string{"gosh", "ls", "cat", "cp", "mkdir", "rm", "find", "grep", "hexdump", "mount", "umount", "df", "dmesg",
	"ps", "lsmod", "sync", "poweroff", "shutdown"}

// rescueSources are the files of this module that the rescue tools are made from. go.sum stands for u-root's.
var rescueSources = []string{"go.sum", "initramfs/release/busybox/busybox.go", "initramfs/release/sh/main.go"}

// rescue builds u-root's shell and commands into one program with a link for each: /bbin/bb, /bin/sh.
func rescue(ctx context.Context, arch string, s shelf) error {
	packages := []string{busybox.Shell}
	for _, c := range rescueCommands {
		packages = append(packages, busybox.Core+c)
	}
	key, err := keyOf(slices.Concat(packages, []string{runtime.Version(), arch}), rescueSources...)
	if err != nil {
		return err
	}
	return s.storeFor(ctx, "rescue.cpio", key, func() ([]byte, error) {
		records, err := busybox.Build(arch, s.scratch, packages)
		if err != nil {
			return nil, fmt.Errorf("rescue tools: %w", err)
		}
		return archiveOf(ctx, append(records, cpio.Symlink("bin/sh", "../bbin/sh"))...)
	})
}

// keyOf hashes words and the content of files.
func keyOf(words []string, files ...string) (string, error) {
	var b strings.Builder
	for _, w := range words {
		fmt.Fprintln(&b, w)
	}
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(&b, hash(content))
	}
	return hash([]byte(b.String())), nil
}
