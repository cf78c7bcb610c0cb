package build

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"veneer/boot/network"
	"veneer/images"
)

// The netboot output: a directory with the layout of a store, and beside it what firmware and iPXE fetch.
const (
	outNetboot = "netboot"
	scriptFile = "boot.ipxe"
	netbootUKI = "uki-netboot.efi" // staged only
)

// makeNetboot stages the directory. Its files share their content with those of the output.
func (b *builder) makeNetboot(m images.Manifest, uki bool) error {
	files := []placed{{outKernel, outKernel}, {outInitramfs, outInitramfs}}
	if uki {
		// Of its own: no other output is to look for a server.
		c := b.spec.Config.Boot
		if err := b.makeUKI(m, netbootUKI, strings.TrimSpace("veneer.url="+c.URL+" "+c.Cmdline)); err != nil {
			return err
		}
		files = append(files, placed{outUKI, netbootUKI})
	}
	files = append(files, placedFiles(m, b.signer != nil)...)
	for _, f := range files {
		to := b.stage.path(filepath.Join(outNetboot, strings.TrimPrefix(f.name, "veneer/")))
		if err := makeServed(b.stage.path(outNetboot), filepath.Dir(to)); err != nil {
			return err
		}
		if err := os.Link(b.stage.path(f.from), to); err != nil {
			return fmt.Errorf("netboot: %w; the output directory must lie on a file system with hard links", err)
		}
	}
	return b.stage.write(filepath.Join(outNetboot, scriptFile), ipxeScript(m, b.spec.Config.Boot))
}

// makeServed makes a directory below root that a server of another user can read, whatever the umask.
func makeServed(root, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for ; strings.HasPrefix(dir, root); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// ipxeScript boots the directory that it lies in.
func ipxeScript(m images.Manifest, c BootConfig) []byte {
	base := "http://${next-server}/"
	if c.URL != "" {
		base, _ = network.ParseURL(c.URL) // it was checked
	}
	cmdline := "veneer.url=${base} BOOTIF=01-${netX/mac:hexhyp}"
	if c.Cmdline != "" {
		cmdline += " " + c.Cmdline
	}
	return fmt.Appendf(nil, `#!ipxe
# %s %s: the directory of this script on its server, with a slash at its end, unless "base" is set already.
isset ${base} || set base %s
kernel ${base}%s initrd=%s %s
initrd ${base}%s
boot
`, m.Name, m.Version, base, outKernel, outInitramfs, cmdline, outInitramfs)
}

// treeSize is the size of a file, or of all files in a directory.
func treeSize(name string) (size int64, err error) {
	err = filepath.WalkDir(name, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}
