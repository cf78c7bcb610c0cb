package changes

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Text is the answer for people: what the path is, who has it, what becomes of it; and of a link the same of where it leads.
func (a *Answer) Text() string {
	var b strings.Builder
	for at := a; at != nil; at = at.Leads {
		if at != a {
			b.WriteString("\n")
		}
		at.block(&b)
	}
	return b.String()
}

func (a *Answer) block(b *strings.Builder) {
	b.WriteString(Plain(a.Path))
	if a.Asked != "" {
		b.WriteString("  (as " + Plain(a.Asked) + " is reached)")
	}
	b.WriteString("\n")
	line := func(name, format string, args ...any) {
		fmt.Fprintf(b, "  %-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	if a.Foreign != nil {
		line("Supplied", "by none of ours: %s is %s", Plain(a.Foreign.Path), Plain(a.Foreign.What))
		return
	}
	switch {
	case a.Kind == "":
		line("Is", "not there: %s", a.Reason)
	case a.Kind == Link:
		line("Is", "a link to %s", Plain(a.Target))
	case a.Kind == Directory:
		line("Is", "a directory; what is in it has answers of its own")
	default:
		line("Is", "a %s", a.Kind)
	}
	if a.Layer != nil {
		line("Supplied", "by the %s", *a.Layer)
		line("Verified", "%s", a.verified())
	}
	line("Rule", "%s", a.rule())
	if a.Differs != nil && a.Differs.Type != Deleted {
		line("Differs", "%s", a.difference())
	}
	if s := a.Survives; s != (Survival{}) {
		line("Reboot", "%s", s.Reboot.How)
		line("Upgrade", "%s", s.Upgrade.How)
		line("Reset", "%s", s.Reset.How)
	}
	for i, h := range a.Holders {
		name := ""
		if i == 0 {
			name = "Has it"
		}
		line(name, "%s", h)
	}
}

func (a *Answer) verified() string {
	switch {
	case a.Layer.Verified:
		return "yes: each block is checked against the signed manifest when it is read"
	case a.Layer.Role == RoleUpper || a.Layer.Role == RoleData:
		return "no: it was written here, and nobody signed it"
	}
	return "NO: this boot did not check its images"
}

func (a *Answer) rule() string {
	if a.Rule.Action == "" {
		return "none: it belongs to the root"
	}
	s := a.Rule.Action + " " + Plain(a.Mount)
	if a.Rule.Origin != "" {
		s += " (" + Plain(a.Rule.Origin) + ")"
	}
	return s
}

// difference is what the upper made of it.
func (a *Answer) difference() string {
	d := a.Differs
	switch d.Type {
	case Added:
		if d.From != "" {
			return "renamed: below it is " + Plain(d.From)
		}
		return "added: nothing below has it"
	case Same:
		return "no: it equals what is below"
	}
	s := string(d.Type)
	var notes []string
	if d.From != "" {
		notes = append(notes, "below it is "+Plain(d.From))
	}
	if d.Was != "" {
		notes = append(notes, fmt.Sprintf("%s -> %s", d.Was, d.Kind))
	}
	for _, m := range d.Metadata {
		notes = append(notes, m.String())
	}
	if len(notes) > 0 {
		s += ": " + strings.Join(notes, ", ")
	}
	return s
}

// String is the holder as one line: its state, the layer, and what it has.
func (h Holder) String() string {
	s := fmt.Sprintf("%-8s  %s", h.State, h.Layer)
	if h.At != "" {
		s += " at " + Plain(h.At)
	}
	if h.Kind != "" {
		s += fmt.Sprintf(": %s %04o %d:%d", h.Kind, h.Mode, h.UID, h.GID)
		if h.Kind == File {
			s += fmt.Sprintf(" %d bytes", h.Size)
		}
	}
	return s
}

type holderJSON struct {
	Layer   Layer  `json:"layer"`
	At      string `json:"at,omitempty"`
	AtBytes string `json:"at-base64,omitempty"`
	State   string `json:"state"`
	Kind    Kind   `json:"kind,omitempty"`
	Size    int64  `json:"size"`
	Mode    string `json:"mode,omitempty"`
	Owner   string `json:"owner,omitempty"`
}

// MarshalJSON writes the holder for programs.
func (h Holder) MarshalJSON() ([]byte, error) {
	j := holderJSON{Layer: h.Layer, State: h.State, Kind: h.Kind, Size: h.Size}
	j.At, j.AtBytes = exact(h.At)
	if h.Kind != "" {
		j.Mode, j.Owner = fmt.Sprintf("%04o", h.Mode), fmt.Sprintf("%d:%d", h.UID, h.GID)
	}
	return json.Marshal(j)
}

type answerJSON struct {
	Path        string       `json:"path"`
	PathBytes   string       `json:"path-base64,omitempty"`
	Asked       string       `json:"asked,omitempty"`
	AskedBytes  string       `json:"asked-base64,omitempty"`
	Exists      bool         `json:"exists"`
	Kind        Kind         `json:"kind,omitempty"`
	Target      string       `json:"target,omitempty"`
	TargetBytes string       `json:"target-base64,omitempty"`
	Layer       *Layer       `json:"layer"`
	Verified    bool         `json:"verified"`
	Foreign     *Foreign     `json:"foreign,omitempty"`
	Reason      string       `json:"reason,omitempty"`
	Mount       string       `json:"mount"`
	Action      string       `json:"action"`
	Origin      string       `json:"origin"`
	Change      Type         `json:"change,omitempty"`
	From        string       `json:"from,omitempty"`
	FromBytes   string       `json:"from-base64,omitempty"`
	Metadata    []Difference `json:"metadata"`
	Holders     []Holder     `json:"holders"`
	Survives    Survival     `json:"survives"`
	Leads       *Answer      `json:"leads-to,omitempty"`
}

// MarshalJSON writes the answer for programs.
func (a *Answer) MarshalJSON() ([]byte, error) {
	j := answerJSON{Exists: a.Kind != "", Kind: a.Kind, Layer: a.Layer, Verified: a.Layer != nil && a.Layer.Verified, Foreign: a.Foreign, Reason: a.Reason,
		Mount: a.Mount, Action: a.Rule.Action, Origin: a.Rule.Origin, Metadata: []Difference{}, Holders: append([]Holder{}, a.Holders...), Survives: a.Survives, Leads: a.Leads}
	j.Path, j.PathBytes = exact(a.Path)
	j.Asked, j.AskedBytes = exact(a.Asked)
	j.Target, j.TargetBytes = exact(a.Target)
	if a.Differs != nil {
		j.From, j.FromBytes = exact(a.Differs.From)
		j.Change, j.Metadata = a.Differs.Type, append(j.Metadata, a.Differs.Metadata...)
	}
	return json.Marshal(j)
}
