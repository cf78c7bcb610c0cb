package images

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"veneer/boot"
	"veneer/images/canonical"
	"veneer/overlay/identity"
	"veneer/overlay/rule"
)

// Limits of a manifest.
const (
	MaxManifest = 1 << 20 // bytes
	maxImages   = 500     // what overlayfs stacks
	maxName     = 255
	maxTools    = 64
	maxBuilt    = 1<<32 - 1
	maxTries    = 100

	maxRulePaths = 64
	blockSize    = 4096
)

// CheckID reports whether s is the ID of an image: 64 hexadecimal digits in lower case.
func CheckID(s string) error {
	if len(s) != 64 || strings.Trim(s, "0123456789abcdef") != "" {
		return fmt.Errorf("%q is not an image ID: want 64 lower-case hexadecimal digits", clip(s))
	}
	return nil
}

// Encode returns the canonical form of the manifest, see package canonical. The same manifest has the same bytes everywhere; an
// absent list and an empty one are the same.
func (m Manifest) Encode() []byte { return canonical.Write(m.walk) }

// ParseManifest reads a manifest in its canonical form and checks it with Validate. Anything else is refused: a newer format,
// an unknown, doubled or misspelt field, text behind the end.
func ParseManifest(text []byte) (Manifest, error) {
	var m Manifest
	if len(text) > MaxManifest {
		return m, fmt.Errorf("manifest of %d bytes is larger than %d", len(text), MaxManifest)
	}
	err := canonical.Read(text, m.walk)
	if err == nil {
		err = m.Validate()
	}
	if err != nil {
		return m, fmt.Errorf("manifest: %w", err)
	}
	return m, nil
}

// ParseSigned reads a manifest whose signature was checked. Whoever signs one has validated it; what the init acts on with no
// further look, the format and the stack of images, is checked again all the same.
func ParseSigned(text []byte) (Manifest, error) {
	var m Manifest
	if len(text) > MaxManifest {
		return m, fmt.Errorf("manifest of %d bytes is larger than %d", len(text), MaxManifest)
	}
	err := canonical.Read(text, m.walk)
	if err == nil && m.Format != Format {
		err = fmt.Errorf("format: %d is not %d", m.Format, Format)
	}
	if err == nil {
		err = checkStack(m.Images)
	}
	if err != nil {
		return m, fmt.Errorf("manifest: %w", err)
	}
	return m, nil
}

// Validate reports everything that is wrong with the manifest, all at once.
func (m Manifest) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if m.Format != Format {
		bad("format: %d is not %d", m.Format, Format)
	}
	for _, f := range []struct{ field, value string }{{"name", m.Name}, {"version", m.Version}, {"kernel.release", m.Kernel.Release}} {
		if err := checkName(f.value); err != nil {
			bad("%s: %w", f.field, err)
		}
	}
	if m.Architecture != "amd64" && m.Architecture != "arm64" {
		bad("architecture: %q is neither amd64 nor arm64", clip(m.Architecture))
	}
	errs = append(errs, m.Kernel.File.check("kernel"), m.Initramfs.check("initramfs"), m.Root.check(), m.State.Check())
	if m.Root.Upper == string(boot.UpperPersistent) && !m.State.Declared() {
		bad("root.upper: %q needs a state to be kept in: state.place", m.Root.Upper)
	}
	if m.Built < 0 || m.Built > maxBuilt {
		bad("built: %d lies outside 1970 to 2106", m.Built)
	}
	errs = append(errs, checkIdentity(m.Identity, m.State.Declared()))
	if err := rule.CheckSet(m.Rules, m.State.Declared()); err != nil {
		bad("rules: %w", err)
	}
	switch m.Corruption {
	case EIO, Restart, Panic:
	default:
		bad("corruption: %q is none of eio, restart, panic", clip(string(m.Corruption)))
	}
	if m.Kernel.Name == m.Initramfs.Name {
		bad("initramfs.name: %q is the name of the kernel too", clip(m.Initramfs.Name))
	}
	errs = append(errs, checkStack(m.Images), checkTools(m.Tools))
	return errors.Join(errs...)
}

func checkIdentity(settings []identity.Setting, persistent bool) error {
	var errs []error
	seen := map[string]bool{}
	for i, s := range settings {
		if err := identity.Check(s, persistent); err != nil {
			errs = append(errs, fmt.Errorf("identity[%d]: %w", i, err))
		}
		if seen[s.Name] {
			errs = append(errs, fmt.Errorf("identity[%d]: %s is there twice", i, clip(s.Name)))
		}
		seen[s.Name] = true
	}
	return errors.Join(errs...)
}

func checkTools(tools []Tool) error {
	if len(tools) > maxTools {
		return fmt.Errorf("tools: %d are more than %d", len(tools), maxTools)
	}
	var errs []error
	for i, t := range tools {
		for _, f := range []struct{ field, value string }{{"name", t.Name}, {"version", t.Version}} {
			if err := checkName(f.value); err != nil {
				errs = append(errs, fmt.Errorf("tools[%d].%s: %w", i, f.field, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (f File) check(field string) error {
	var errs []error
	if err := checkName(f.Name); err != nil {
		errs = append(errs, fmt.Errorf("%s.name: %w", field, err))
	}
	if f.Size <= 0 {
		errs = append(errs, fmt.Errorf("%s.size: %d is not the size of a file", field, f.Size))
	}
	if sum, err := hex.DecodeString(f.SHA256); err != nil || len(sum) != 32 || strings.ToLower(f.SHA256) != f.SHA256 {
		errs = append(errs, fmt.Errorf("%s.sha256: %q is not a SHA-256 in lower-case hexadecimal", field, clip(f.SHA256)))
	}
	return errors.Join(errs...)
}

func (r Root) check() error {
	var errs []error
	spec := r.Upper
	if r.Size != "" {
		spec += ":size=" + r.Size
	}
	if _, err := boot.ParseUpper(spec); err != nil {
		errs = append(errs, fmt.Errorf("root: %w", err))
	}
	if _, err := boot.ParseOnFail(r.OnFail); err != nil {
		errs = append(errs, fmt.Errorf("root.on-fail: %w", err))
	}
	switch r.BaseChange {
	case "", rule.MergeChange, rule.Keep, rule.Quarantine, rule.Reset:
	default:
		errs = append(errs, fmt.Errorf("root.base-change: %q is none of merge, keep, quarantine, reset", clip(string(r.BaseChange))))
	}
	return errors.Join(errs...)
}

// checkStack checks the images and their order: tools, base, layers.
func checkStack(stack []Image) error {
	if len(stack) == 0 || len(stack) > maxImages {
		return fmt.Errorf("images: %d of them, want 1 to %d", len(stack), maxImages)
	}
	var errs []error
	rank := map[Role]int{RoleTools: 0, RoleBase: 1, RoleLayer: 2}
	seen := map[string]bool{}
	last, bases := 0, 0
	for i, img := range stack {
		at, known := rank[img.Role]
		switch {
		case !known:
			errs = append(errs, fmt.Errorf("images[%d].role: %q is none of tools, base, layer", i, clip(string(img.Role))))
		case at < last || at == 0 && i > 0:
			errs = append(errs, fmt.Errorf("images[%d]: %s is out of order; the order is tools, base, layers", i, img.Role))
		}
		last = max(last, at)
		if img.Role == RoleBase {
			bases++
		}
		if seen[img.ID] {
			errs = append(errs, fmt.Errorf("images[%d].id: %s is there twice", i, clip(img.ID)))
		}
		seen[img.ID] = true
		if err := img.check(); err != nil {
			errs = append(errs, fmt.Errorf("images[%d]: %w", i, err))
		}
	}
	if bases != 1 {
		errs = append(errs, fmt.Errorf("images: %d bases, want exactly one", bases))
	}
	return errors.Join(errs...)
}

func (img Image) check() error {
	errs := []error{CheckID(img.ID), checkName(img.Name)}
	if img.FileSystem != "squashfs" && img.FileSystem != "erofs" {
		errs = append(errs, fmt.Errorf("filesystem: %q is neither squashfs nor erofs", clip(img.FileSystem)))
	}
	v := img.Verity
	const most = 1 << 40 // blocks: 4 PiB, far from any overflow
	switch {
	case v.Algorithm != "sha256":
		errs = append(errs, fmt.Errorf("verity.algorithm: %q is not sha256", clip(v.Algorithm)))
	case v.BlockSize != blockSize:
		errs = append(errs, fmt.Errorf("verity.block-size: %d is not %d", v.BlockSize, blockSize))
	case v.DataBlocks < 1 || v.DataBlocks > most:
		errs = append(errs, fmt.Errorf("verity.data-blocks: %d is out of bounds", v.DataBlocks))
	case v.HashOffset%blockSize != 0 || v.HashOffset/blockSize < v.DataBlocks || v.HashOffset/blockSize > most:
		errs = append(errs, fmt.Errorf("verity.hash-offset: %d is not a block boundary behind the data", v.HashOffset))
	case img.Size < v.HashOffset+blockSize*(1+treeBlocks(v.DataBlocks)):
		errs = append(errs, fmt.Errorf("size: %d is too small for the data (verity.data-blocks: %d) and its hash tree", img.Size, v.DataBlocks))
	}
	if salt, err := hex.DecodeString(v.Salt); err != nil || len(salt) > 256 || strings.ToLower(v.Salt) != v.Salt {
		errs = append(errs, fmt.Errorf("verity.salt: %q is not lower-case hexadecimal of at most 256 bytes", clip(v.Salt)))
	}
	return errors.Join(errs...)
}

// treeBlocks is the number of blocks of a hash tree of SHA-256 over n data blocks; a single block needs none, its hash is the root.
func treeBlocks(n int64) int64 {
	const hashes = blockSize / 32
	var blocks int64
	for n > 1 {
		n = (n + hashes - 1) / hashes
		blocks += n
	}
	return blocks
}

// checkName accepts what is safe in a file name, on a console and in a log line.
func checkName(s string) error {
	if s == "" || len(s) > maxName {
		return fmt.Errorf("%q: want 1 to %d bytes", clip(s), maxName)
	}
	if strings.ContainsAny(s, `/\`) || s == "." || s == ".." || strings.IndexFunc(s, unprintable) >= 0 {
		return fmt.Errorf("%q holds a slash, a backslash or what cannot be printed", clip(s))
	}
	return nil
}

func unprintable(r rune) bool { return r == utf8.RuneError || !strconv.IsPrint(r) }

func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
