package merge

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/images/canonical"
	"veneer/overlay/entry"
)

// maxPlan bounds the size of a plan that is read, in bytes.
const maxPlan = 256 << 20

// Encode returns the plan as JSON.
func (p *Plan) Encode() []byte { return canonical.Write(p.walk) }

// ReadPlan reads what Encode wrote.
func ReadPlan(text []byte) (*Plan, error) {
	p := &Plan{}
	if err := canonical.Read(text, p.walk); err != nil {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	return p, nil
}

func (p *Plan) walk(c *canonical.Coder) {
	c.Object("report", p.Report.walk)
	canonical.List(c, "actions", &p.Actions, maxActions+maxItems, func(c *canonical.Coder, a *Action) {
		canonical.String(c, "op", &a.Op)
		quoted(c, "path", &a.Path)
		canonical.Number(c, "take", &a.Take)
		side := entry.Quote(a.Side)
		c.Optional("side", &side)
		var ok bool
		if a.Side, ok = entry.Unquote(side); !ok {
			c.Fail(fmt.Errorf("%q is no name as veneer writes it", side))
		}
		if err := a.check(); err != nil {
			c.Fail(err)
		}
		c.Optional("digest", &a.Digest)
		m := int(a.Mode)
		canonical.Number(c, "mode", &m)
		a.Mode = uint32(m)
		canonical.Number(c, "size", &a.Size)
		canonical.Number(c, "sec", &a.Sec)
		canonical.Number(c, "nsec", &a.Nsec)
	})
}

// check refuses what would lead out of the upper.
func (a *Action) check() error {
	if err := checkEntry(&Entry{Path: a.Path, Mode: unix.S_IFREG}); err != nil {
		return err
	}
	if a.Side == ".." || a.Side == "." || strings.ContainsAny(a.Side, "/\x00") {
		return fmt.Errorf("%q is no name", a.Side)
	}
	return nil
}
