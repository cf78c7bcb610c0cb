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
	Bytes    int64  // of the tmpfs
	UpperDir string // where the upper's own file system is mounted
	LinkDir  string // where short names for the lowers may be made
	Target   string
	ReadOnly bool
}

// Plan returns the operations that make the merged root s.Target.
//
//	upper=tmpfs: a tmpfs of its own at UpperDir (never /run, which is sized for other things), with a size, because a tmpfs
//	             without one ends in the OOM killer instead of ENOSPC; on it upper/ and work/
//	root:        overlay of the lowers, with redirect_dir=on: the upper never meets another lower, so that directories of
//	             the base can be renamed as on an ordinary file system
//
// Where the lowers' paths do not fit in the options of mount(2), each gets a short link in LinkDir and the overlay is mounted
// from there.
func Plan(s Stack) ([]mount.Op, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	ops := []mount.Op{
		mount.Mkdir{Path: s.UpperDir, Mode: 0o755},
		mount.Mount{Type: "tmpfs", Source: "veneer-upper", Target: s.UpperDir, Flags: mount.NoAtime,
			Data: "mode=0755,size=" + strconv.FormatInt(s.Bytes, 10)},
		mount.Mkdir{Path: path.Join(s.UpperDir, "upper"), Mode: 0o755},
		mount.Mkdir{Path: path.Join(s.UpperDir, "work"), Mode: 0o700},
	}
	l := Layers{s.Lowers, path.Join(s.UpperDir, "upper"), path.Join(s.UpperDir, "work")}
	const tail = ",redirect_dir=on,index=off,metacopy=off"
	root := mount.Mount{Type: "overlay", Source: "overlay", Target: s.Target, Data: l.Data() + tail}
	if len(root.Data) > maxOptions {
		ops = append(ops, s.links()...)
		root.Dir, l.Lowers = s.LinkDir, linkNames(len(s.Lowers))
		if root.Data = l.Data() + tail; len(root.Data) > maxOptions {
			return nil, fmt.Errorf("%d layers do not fit in the %d bytes of options that mount(2) takes", len(s.Lowers), maxOptions)
		}
	}
	if s.ReadOnly {
		root.Flags = mount.ReadOnly
	}
	return append(ops, mount.Mkdir{Path: s.Target, Mode: 0o755}, root), nil
}

// links gives each lower a short name in LinkDir, from which the overlay is then mounted.
func (s Stack) links() []mount.Op {
	ops := []mount.Op{mount.Mkdir{Path: s.LinkDir, Mode: 0o755}}
	for i, name := range linkNames(len(s.Lowers)) {
		ops = append(ops, mount.Symlink{Content: s.Lowers[i], Path: path.Join(s.LinkDir, name)})
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
	case s.Upper.Kind != boot.UpperTmpfs:
		return fmt.Errorf("upper %q is not supported by this version; want tmpfs", s.Upper.Kind)
	case s.Bytes <= 0:
		return errors.New("a tmpfs upper needs a size, or a full upper would end in the OOM killer")
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
