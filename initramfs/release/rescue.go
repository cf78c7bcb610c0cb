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
func rescue(ctx context.Context, arch, scratch, file string) error {
	packages := make([]string, len(rescueCommands))
	for i, c := range rescueCommands {
		packages[i] = busybox.Core + c
	}
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		return fmt.Errorf("run release in the root of the module: %w", err)
	}
	key := hash([]byte(strings.Join(append([]string{runtime.Version(), arch, string(sums)}, packages...), "\n")))
	return storeFor(ctx, key, file, func() ([]byte, error) {
		records, err := busybox.Build(arch, scratch, packages)
		if err != nil {
			return nil, fmt.Errorf("rescue tools: %w", err)
		}
		return archiveOf(ctx, append(records, cpio.Symlink("bin/sh", "../bbin/gosh"))...)
	})
}
