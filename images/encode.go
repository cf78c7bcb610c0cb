package images

import (
	"errors"
	"fmt"

	"veneer/images/canonical"
	"veneer/overlay/rule"
)

// ErrNewerFormat is the error of a manifest whose format is newer than Format.
var ErrNewerFormat = errors.New("newer than what this veneer reads")

// walk visits the fields in the order in which they are signed. The format comes first: what follows it may be anything in a
// newer one.
func (m *Manifest) walk(c *canonical.Coder) {
	canonical.Number(c, "format", &m.Format)
	if m.Format > Format {
		c.Fail(fmt.Errorf("format %d is %w, %d: update the initramfs (or the command) before the images", m.Format, ErrNewerFormat, Format))
	}
	canonical.String(c, "name", &m.Name)
	canonical.String(c, "version", &m.Version)
	c.Count("epoch", &m.Epoch)
	canonical.String(c, "architecture", &m.Architecture)
	c.Object("kernel", func(c *canonical.Coder) {
		canonical.String(c, "release", &m.Kernel.Release)
		m.Kernel.File.walk(c)
	})
	c.Object("initramfs", m.Initramfs.walk)
	c.Object("root", func(c *canonical.Coder) {
		canonical.String(c, "upper", &m.Root.Upper)
		canonical.String(c, "size", &m.Root.Size)
		canonical.String(c, "on-fail", &m.Root.OnFail)
		canonical.String(c, "base-change", &m.Root.BaseChange)
	})
	c.Object("state", m.State.walk)
	canonical.List(c, "rules", &m.Rules, rule.MaxRules, func(c *canonical.Coder, r *rule.Rule) { r.Walk(c) })
	canonical.String(c, "corruption", &m.Corruption)
	canonical.List(c, "images", &m.Images, maxImages, func(c *canonical.Coder, img *Image) { img.walk(c) })
	canonical.List(c, "tools", &m.Tools, maxTools, func(c *canonical.Coder, t *Tool) {
		canonical.String(c, "name", &t.Name)
		canonical.String(c, "version", &t.Version)
	})
}

func (s *State) walk(c *canonical.Coder) {
	canonical.String(c, "place", &s.Place)
	canonical.String(c, "missing", &s.Missing)
	c.Bool("create", &s.Create)
	c.Bool("grow", &s.Grow)
	canonical.String(c, "filesystem", &s.FileSystem)
	canonical.String(c, "size", &s.Size)
	canonical.String(c, "unlock", &s.Unlock)
	canonical.String(c, "key-file", &s.KeyFile)
	canonical.Number(c, "tries", &s.Tries)
	canonical.Number(c, "warning", &s.Warning)
	canonical.Number(c, "critical", &s.Critical)
	canonical.String(c, "full", &s.Full)
	canonical.Strings(c, "rule-paths", &s.RulePaths, maxRulePaths)
}

func (f *File) walk(c *canonical.Coder) {
	canonical.String(c, "name", &f.Name)
	canonical.Number(c, "size", &f.Size)
	canonical.String(c, "sha256", &f.SHA256)
}

func (img *Image) walk(c *canonical.Coder) {
	canonical.String(c, "role", &img.Role)
	canonical.String(c, "name", &img.Name)
	canonical.String(c, "id", &img.ID)
	canonical.Number(c, "size", &img.Size)
	canonical.String(c, "filesystem", &img.FileSystem)
	c.Object("verity", func(c *canonical.Coder) {
		v := &img.Verity
		canonical.String(c, "algorithm", &v.Algorithm)
		canonical.Number(c, "block-size", &v.BlockSize)
		canonical.Number(c, "data-blocks", &v.DataBlocks)
		canonical.Number(c, "hash-offset", &v.HashOffset)
		canonical.String(c, "salt", &v.Salt)
	})
}
