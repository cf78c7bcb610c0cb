package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"strings"

	"veneer/images"
)

// Of an EFI system partition that a BIOS boots from too.
const (
	biosDir    = "veneer" // of the sets, each in a directory of its own
	biosConfig = "syslinux/" + bootFile
)

// biosSet is a kernel and an initramfs as syslinux starts them.
type biosSet struct{ kernel, initramfs, cmdline string }

// biosSetOf is where those of a set lie: other files never have its names.
func biosSetOf(m images.Manifest) biosSet {
	sum := sha256.Sum256([]byte(m.Kernel.SHA256 + m.Initramfs.SHA256))
	dir := path.Join(biosDir, hex.EncodeToString(sum[:6]))
	return biosSet{kernel: path.Join(dir, outKernel), initramfs: path.Join(dir, outInitramfs)}
}

// config is syslinux's configuration that starts the set, and on demand (Shift held down, then its label typed) the former one.
func (s biosSet) config(former *biosSet) []byte {
	var b bytes.Buffer
	b.WriteString("DEFAULT veneer\nPROMPT 0\n")
	label := func(name string, s biosSet) {
		fmt.Fprintf(&b, "LABEL %s\n  LINUX /%s\n  INITRD /%s\n", name, s.kernel, s.initramfs)
		if s.cmdline != "" {
			fmt.Fprintf(&b, "  APPEND %s\n", s.cmdline)
		}
	}
	label("veneer", s)
	if former != nil {
		label("former", *former)
	}
	return b.Bytes()
}

// parseBIOSConfig reads the sets of a configuration as config writes it, by their labels.
func parseBIOSConfig(text []byte) map[string]biosSet {
	sets := map[string]biosSet{}
	label := ""
	for _, line := range strings.Split(string(text), "\n") {
		word, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		value = strings.TrimSpace(value)
		s := sets[label]
		switch strings.ToUpper(word) {
		case "LABEL":
			label = value
			continue
		case "LINUX":
			s.kernel = strings.TrimPrefix(value, "/")
		case "INITRD":
			s.initramfs = strings.TrimPrefix(value, "/")
		case "APPEND":
			s.cmdline = value
		default:
			continue
		}
		if label != "" {
			sets[label] = s
		}
	}
	return sets
}
