package build

import (
	"fmt"
	"io"
	"strings"
)

// WriteText writes the verification for people: each check on a line, then what was not checked, then the sum.
func (v Verification) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", v.Kind, printable(v.Path))
	if v.KeysFrom != "" {
		fmt.Fprintf(&b, "  keys   %s\n", printable(v.KeysFrom))
	}
	for _, k := range v.Keys {
		fmt.Fprintf(&b, "         %s (%s)\n", k.ID, printable(k.Name))
	}
	bad := 0
	for _, c := range v.Checks {
		word, text := "ok", c.Detail
		if c.Error != "" {
			word, text = "BAD", strings.ReplaceAll(c.Error, "\n", "; ")
			bad++
		}
		fmt.Fprintf(&b, "  %-6s %s: %s\n", word, printable(c.What), printable(text))
	}
	for _, n := range v.Notes {
		fmt.Fprintf(&b, "  note   %s\n", printable(n))
	}
	checks := count(int64(len(v.Checks)), "check")
	if bad > 0 {
		fmt.Fprintf(&b, "%d of %s failed\n", bad, checks)
	} else if len(v.Checks) == 1 {
		b.WriteString("the check passed\n")
	} else {
		fmt.Fprintf(&b, "all %s passed\n", checks)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
