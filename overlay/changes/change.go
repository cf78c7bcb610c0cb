package changes

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Type is how a path differs.
type Type string

// The types of change, and Same and LeftOut, which are none.
const (
	Added       Type = "added"
	Modified    Type = "modified"     // the content, the target of a link, or the number of a device; and perhaps metadata
	Deleted     Type = "deleted"      // with all that was below it
	Metadata    Type = "metadata"     // nothing but mode, owner or extended attributes
	TypeChanged Type = "type-changed" // a file became a directory
	Same        Type = "same"         // copied up, and equal: told only when asked for
	LeftOut     Type = "left-out"     // not compared: see Why
)

// letters are what people see of a type.
var letters = map[Type]string{Added: "A", Modified: "M", Deleted: "D", Metadata: "m", TypeChanged: "T", Same: "=", LeftOut: "#"}

// Change is one path that differs.
type Change struct {
	Path     string // absolute, in bytes as they are
	Type     Type
	Kind     Kind // of what is there now, or was
	Was      Kind // when the type changed
	Size     int64
	OldSize  int64
	Metadata []Difference
	From     string // a renamed directory or file: where the base has it
	Links    uint64 // names of the file in the upper, when there are more than one
	More     int    // deleted entries of this directory beyond those that are listed
	Why      string // of LeftOut

	old, new *item
}

// Difference is one piece of metadata that differs: mode, owner, xattr NAME, target or device. A side that has none is "".
type Difference struct {
	What string `json:"what"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// Open opens both contents of a regular file; a side that has none is nil. It may be called only while the change is at hand:
// before the next one is asked for.
func (c Change) Open() (old, new io.ReadCloser, err error) {
	if c.old.found() && c.old.kind() == File {
		if old, err = c.old.open(); err != nil {
			return nil, nil, err
		}
	}
	if c.new.found() && c.new.kind() == File {
		if new, err = c.new.open(); err != nil && old != nil {
			old.Close()
		}
	}
	return old, new, err
}

// changeJSON is the form for programs: its keys are stable.
type changeJSON struct {
	Path      string       `json:"path"`
	PathBytes string       `json:"path-base64,omitempty"`
	Type      Type         `json:"type"`
	Kind      Kind         `json:"kind,omitempty"`
	Was       Kind         `json:"was,omitempty"`
	Size      int64        `json:"size"`
	OldSize   int64        `json:"old-size"`
	Metadata  []Difference `json:"metadata"`
	From      string       `json:"from,omitempty"`
	FromBytes string       `json:"from-base64,omitempty"`
	Links     uint64       `json:"links,omitempty"`
	More      int          `json:"more,omitempty"`
	Why       string       `json:"why,omitempty"`
}

// MarshalJSON writes the change for programs. A path that is not UTF-8 has its bytes in path-base64 too.
func (c Change) MarshalJSON() ([]byte, error) {
	j := changeJSON{Type: c.Type, Kind: c.Kind, Was: c.Was, Size: c.Size, OldSize: c.OldSize, Metadata: c.Metadata, Links: c.Links, More: c.More, Why: c.Why}
	j.Path, j.PathBytes = exact(c.Path)
	j.From, j.FromBytes = exact(c.From)
	if j.Metadata == nil {
		j.Metadata = []Difference{}
	}
	return json.Marshal(j)
}

// String is the change as one line for people: a letter, the path (with a slash behind a directory), and what else there is.
func (c Change) String() string {
	path := c.Path
	if c.Kind == Directory && path != "/" {
		path += "/"
	}
	line := letters[c.Type] + " " + Plain(path)
	var notes []string
	if c.Why != "" {
		notes = append(notes, Plain(c.Why))
	}
	if c.Was != "" {
		notes = append(notes, fmt.Sprintf("%s -> %s", c.Was, c.Kind))
	}
	if c.From != "" {
		notes = append(notes, "from "+Plain(c.From))
	}
	for _, d := range c.Metadata {
		notes = append(notes, d.String())
	}
	if c.More > 0 {
		notes = append(notes, fmt.Sprintf("%d more entries deleted", c.More))
	}
	if len(notes) > 0 {
		line += "  " + strings.Join(notes, ", ")
	}
	return line
}

func (d Difference) String() string {
	switch {
	case d.Old == "":
		return fmt.Sprintf("%s %s added", Plain(d.What), Plain(d.New))
	case d.New == "":
		return fmt.Sprintf("%s %s removed", Plain(d.What), Plain(d.Old))
	case strings.HasPrefix(d.What, "xattr "):
		return Plain(d.What)
	}
	return fmt.Sprintf("%s %s -> %s", Plain(d.What), Plain(d.Old), Plain(d.New))
}
