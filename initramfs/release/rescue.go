package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/u-root/mkuimage/cpio"

	"veneer/initramfs/release/busybox"
)

// rescueCommands are what a person needs to see why a boot failed, and to stop the machine.
var rescueCommands = []string{"gosh", "ls", "cat", "cp", "mkdir", "rm", "find", "grep", "hexdump", "mount", "umount", "df", "dmesg",
	"ps", "lsmod", "sync", "poweroff", "shutdown"}

// rescue builds u-root's shell and commands into one program with a link for each: /bbin/bb, /bin/sh.
func rescue(ctx context.Context, arch string, s shelf) error {
	packages := []string{busybox.Shell}
	for _, c := range rescueCommands {
		packages = append(packages, busybox.Core+c)
	}
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		return err
	}
	key := hash([]byte(strings.Join(append([]string{runtime.Version(), arch, string(sums)}, packages...), "\n")))
	return s.storeFor(ctx, "rescue.cpio", key, func() ([]byte, error) {
		records, err := busybox.Build(arch, s.scratch, packages)
		if err != nil {
			return nil, fmt.Errorf("rescue tools: %w", err)
		}
		return archiveOf(ctx, append(records, cpio.Symlink("bin/sh", "../bbin/sh"))...)
	})
}
