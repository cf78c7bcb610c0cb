package build

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"veneer/images"
)

// WriteText writes the inspection for people. Nothing in it can play with their terminal.
func (i Inspection) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) // the error comes with Flush
	}
	if i.Manifest != nil {
		printManifest(line, *i.Manifest, i.Signature)
	}
	if i.Image != nil {
		printImage(line, *i.Image)
	}
	if i.Initramfs != nil {
		if i.Manifest != nil {
			line("", "")
			line("initramfs", "%s", initramfsFile)
		}
		printInitramfs(line, *i.Initramfs)
	}
	if i.UKI != nil {
		printUKI(line, *i.UKI)
	}
	if i.Disk != nil {
		printDisk(line, *i.Disk)
	}
	if i.ISO != nil {
		printISO(line, *i.ISO)
	}
	if k := i.Kernel; k != nil {
		line("kernel", "%s", printable(k.Release))
		line("architecture", "%s", k.Architecture)
		line("size", "%s", FormatBytes(k.Size))
		line("sha256", "%s", k.SHA256)
	}
	return t.Flush()
}

type printLine func(name, format string, args ...any)

func printManifest(line printLine, m images.Manifest, s *SignatureFile) {
	line("name", "%s %s, epoch %d", m.Name, m.Version, m.Epoch)
	line("format", "%d", m.Format)
	if s != nil {
		line("signed", "by key %s, %s (not checked here: veneer verify)", s.KeyID, printable(s.Comment))
	} else {
		line("signed", "no signature beside it")
	}
	line("architecture", "%s", m.Architecture)
	line("kernel", "%s, %s, %s, sha256 %s", m.Kernel.Release, m.Kernel.Name, FormatBytes(m.Kernel.Size), m.Kernel.SHA256)
	line("initramfs", "%s, %s, sha256 %s", m.Initramfs.Name, FormatBytes(m.Initramfs.Size), m.Initramfs.SHA256)
	size := m.Root.Size
	if size == "" {
		size = "default"
	}
	line("root", "upper %s, size %s, on-fail %s", m.Root.Upper, size, m.Root.OnFail)
	line("corruption", "%s", m.Corruption)
	for n := len(m.Images) - 1; n >= 0; n-- { // the top of the stack first, as it lies
		img := m.Images[n]
		line(string(img.Role), "%s, %s, %s", img.ID, img.FileSystem, FormatBytes(img.Size))
		line("", "%s; %s of %d, hashes at %d%s", img.Name, count(img.Verity.DataBlocks, "block"), img.Verity.BlockSize, img.Verity.HashOffset, saltText(img.Verity.Salt))
	}
	for _, tool := range m.Tools {
		line("built with", "%s %s", tool.Name, tool.Version)
	}
}

func printImage(line printLine, img ImageFile) {
	f, v := img.FileSystem, img.Verity
	line("file", "%s", FormatBytes(img.Size))
	line("file system", "%s, %s, blocks of %d", f.Type, f.Compression, f.BlockSize)
	line("used", "%s, %s", FormatBytes(f.Used), count(f.Inodes, "inode"))
	line("made", "%s", f.Made.Format(time.RFC3339))
	line("ID", "%s (by the top of its hash tree; veneer verify checks each block)", v.ID)
	line("hash tree", "%s, superblock at %d, UUID %s%s", count(v.DataBlocks, "block"), v.HashOffset, v.UUID, saltText(v.Salt))
	if v.Behind > 0 {
		line("behind", "%s that nothing covers", count(v.Behind, "byte"))
	}
}

func saltText(salt string) string {
	if salt == "" {
		return ", no salt"
	}
	return ", salt " + salt
}

func printInitramfs(line printLine, i Initramfs) {
	line("size", "%s, %s, %s unpacked, %s", FormatBytes(i.Size), i.Compression, FormatBytes(i.Unpacked), count(int64(i.Entries), "entry"))
	if i.Init == 0 {
		line("init", "none: this is no initramfs that veneer built")
	} else {
		line("init", "%s", FormatBytes(i.Init))
	}
	line("kernel", "%s", printable(i.Release))
	line("modules", "%d, and %d built into the kernel", len(i.Modules), len(i.Builtin))
	for len(i.Modules) > 0 {
		n := min(8, len(i.Modules))
		line("", "%s", printable(strings.Join(i.Modules[:n], " ")))
		i.Modules = i.Modules[n:]
	}
	if i.Variant != "" {
		line("variant", "%s", printable(i.Variant))
	}
	line("defaults", "%s", printable(i.Defaults))
	line("rescue shell", "%s", yesNo(i.RescueShell))
	line("TPM", "%s", printable(i.TPM))
	line("unsigned", "%s", map[bool]string{false: "refused", true: "accepted with veneer.verify=none"}[i.AllowUnsigned])
	for _, pin := range i.Pins {
		line("pins", "%s", printable(pin))
	}
	for _, k := range i.Keys {
		line("trusts", "%s (%s)", k.ID, printable(k.Name))
	}
	if len(i.Keys) == 0 {
		line("trusts", "no key")
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// FormatBytes writes a size for people, in powers of 1024.
func FormatBytes(n int64) string {
	units := []string{"", "KiB", "MiB", "GiB", "TiB", "PiB"}
	f, u := float64(n), 0
	for f >= 1024 && u < len(units)-1 {
		f /= 1024
		u++
	}
	if u == 0 {
		return count(n, "byte")
	}
	return fmt.Sprintf("%.1f %s", f, units[u])
}

// count writes a number and its noun for people: 1 block, 2 blocks, 2 entries.
func count(n int64, noun string) string {
	if n != 1 {
		if stem, ok := strings.CutSuffix(noun, "y"); ok {
			noun = stem + "ie"
		}
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// printable replaces what must not reach a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}
