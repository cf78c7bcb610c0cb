//go:build !onboard

package main

import (
	"os"
	"path/filepath"

	"veneer/images/build"
)

// builtFor looks at the initramfs of a build output; of anything else nothing is known.
func builtFor(output string) builtIn {
	f, err := os.Open(filepath.Join(output, "initramfs.cpio.zst"))
	if err != nil {
		return builtIn{}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return builtIn{}
	}
	i, err := build.ReadInitramfs(f, info.Size())
	if err != nil {
		return builtIn{}
	}
	return builtIn{true, i.Defaults, i.RescueShell, i.AllowUnsigned, i.Variant}
}
