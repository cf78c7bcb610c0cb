package overlay

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"veneer/boot"
	"veneer/overlay/mount"
)

// maxOptions is what mount(2) takes as options, without the NUL that ends them.
const maxOptions = 4096 - 1

// MaxLayers is the most lower directories that overlayfs stacks (OVL_MAX_STACK in fs/overlayfs/ovl_entry.h).
const MaxLayers = 500

// Layers are the directories of an overlay.
type Layers struct {
	Lowers []string // bottom first
	Upper  string   // empty for a read-only stack
	Work   string
}

// Data returns the directories as mount options, each escaped as overlayfs splits them (ovl_next_opt and
// ovl_split_lowerdirs in fs/overlayfs): a backslash protects a colon, a comma and a backslash.
func (l Layers) Data() string {
	var b strings.Builder
	b.WriteString("lowerdir=")
	for i := len(l.Lowers) - 1; i >= 0; i-- { // overlayfs wants the top first
		b.WriteString(escape(l.Lowers[i]))
		if i > 0 {
			b.WriteByte(':')
		}
	}
	if l.Upper != "" {
		b.WriteString(",upperdir=" + escape(l.Upper) + ",workdir=" + escape(l.Work))
	}
	return b.String()
}

func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`).Replace(path)
}

// Stack is a merged root to be planned.
type Stack struct {
	Lowers   []string // mounted file systems, bottom first
	Upper    boot.Upper
	UpperDir string // holds the upper's two directories: upper and work of a tmpfs, fs and work in a state
	LinkDir  string // where short names for the lowers may be made
	Target   string
	ReadOnly bool
}

// The options of overlayfs. A volatile upper never meets another lower, so that directories of the base can be renamed in it as on
// an ordinary file system. An upper that is kept will: whatever points into a lower (an index, an origin that is relied on, a
// redirect, data that stays below) would then point to nowhere, or to something else
// (Documentation/filesystems/overlayfs.rst, "Changes to underlying filesystems").
const (
	volatileOptions = ",redirect_dir=on,index=off,metacopy=off"
	keptOptions     = "," + KeptOptions
)

// KeptOptions are the options of every upper that outlives a boot, as a stamp remembers them.
const KeptOptions = "index=off,nfs_export=off,redirect_dir=off,metacopy=off"

// The directories of an upper that is kept, beside each other.
const (
	KeptUpper = "fs"
	KeptWork  = "work"
)

// Volatile returns the operations that make the memory for what is gone at the next boot, a tmpfs of its own at dir: never /run,
// which is sized for other things, and never without a size, which would end in the OOM killer instead of ENOSPC.
func Volatile(dir string, bytes int64) ([]mount.Op, error) {
	if bytes <= 0 {
		return nil, errors.New("a tmpfs upper needs a size, or a full upper would end in the OOM killer")
	}
	return []mount.Op{
		mount.Mkdir{Path: dir, Mode: 0o755},
		mount.Mount{Type: "tmpfs", Source: "veneer-upper", Target: dir, Flags: mount.NoAtime,
			Data: "mode=0755,size=" + strconv.FormatInt(bytes, 10)},
	}, nil
}

// Plan returns the operations that make the merged root s.Target: an overlay of the lowers, with the upper on the tmpfs that
// Volatile made at s.UpperDir, or in the directory of a state that is kept.
func Plan(s Stack) ([]mount.Op, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	upper, tail := "upper", volatileOptions
	if s.Upper.Kind == boot.UpperPersistent {
		upper, tail = KeptUpper, keptOptions
	}
	l := Layers{s.Lowers, path.Join(s.UpperDir, upper), path.Join(s.UpperDir, KeptWork)}
	ops := []mount.Op{mount.Mkdir{Path: l.Upper, Mode: 0o755}, mount.Mkdir{Path: l.Work, Mode: 0o700}}
	if s.Upper.Kind == boot.UpperPersistent {
		ops = nil // made durably, with what they were stamped with
	}
	links, root, err := stacked(l, tail, s.LinkDir)
	if err != nil {
		return nil, err
	}
	root.Target = s.Target
	if s.ReadOnly {
		root.Flags = mount.ReadOnly
	}
	return append(append(ops, links...), mount.Mkdir{Path: s.Target, Mode: 0o755}, root), nil
}

// stacked returns the mount of an overlay, but for its target. Where the lowers' paths do not fit in the options of mount(2), each
// gets a short link in linkDir and the overlay is mounted from there.
func stacked(l Layers, tail, linkDir string) (links []mount.Op, m mount.Mount, err error) {
	m = mount.Mount{Type: "overlay", Source: "overlay", Data: l.Data() + tail}
	if len(m.Data) <= maxOptions {
		return nil, m, nil
	}
	links = linked(linkDir, l.Lowers)
	n := len(l.Lowers)
	m.Dir, l.Lowers = linkDir, linkNames(n)
	if m.Data = l.Data() + tail; len(m.Data) > maxOptions {
		return nil, m, fmt.Errorf("%d layers do not fit in the %d bytes of options that mount(2) takes", n, maxOptions)
	}
	return links, m, nil
}

// Stacked returns the mount of an overlay with options of its own, but for its target, and before it the links that it needs in
// linkDir where the lowers' paths are too long for mount(2).
func (l Layers) Stacked(options, linkDir string) (links []mount.Op, m mount.Mount, err error) {
	return stacked(l, ","+options, linkDir)
}

// linked gives each lower a short name in dir, from which the overlay is then mounted.
func linked(dir string, lowers []string) []mount.Op {
	ops := []mount.Op{mount.Mkdir{Path: dir, Mode: 0o755}}
	for i, name := range linkNames(len(lowers)) {
		ops = append(ops, mount.Symlink{Content: lowers[i], Path: path.Join(dir, name)})
	}
	return ops
}

func linkNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	return names
}

func (s Stack) check() error {
	switch {
	case len(s.Lowers) == 0:
		return errors.New("a root needs a base")
	case len(s.Lowers) > MaxLayers:
		return fmt.Errorf("%d layers are more than the %d that overlayfs stacks", len(s.Lowers), MaxLayers)
	case s.Upper.Kind != boot.UpperTmpfs && s.Upper.Kind != boot.UpperPersistent:
		return fmt.Errorf("upper %q is neither tmpfs nor persistent", s.Upper.Kind)
	}
	for _, p := range append([]string{s.UpperDir, s.LinkDir, s.Target}, s.Lowers...) {
		if !path.IsAbs(p) {
			return fmt.Errorf("path %q is not absolute", p)
		}
	}
	for _, lower := range s.Lowers {
		if within(s.UpperDir, lower) || within(lower, s.UpperDir) {
			return fmt.Errorf("upper %q and lower %q lie in one another", s.UpperDir, lower)
		}
	}
	return nil
}

// within reports whether path p lies at or below dir.
func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}
