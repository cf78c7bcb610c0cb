package rule

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"veneer/images/canonical"
)

// Action is what happens to a path.
type Action string

// The actions.
const (
	Persist   Action = "persist"   // kept; seeded from the base when empty
	Merge     Action = "merge"     // an overlay of its own, kept, and merged with the base when that changes
	Ephemeral Action = "ephemeral" // gone at the next boot
	ReadOnly  Action = "read-only" // as the images have it, and not writable
	Mask      Action = "mask"      // hidden
)

// Actions lists the actions.
var Actions = []Action{Persist, Merge, Ephemeral, ReadOnly, Mask}

// Form is how a path that persists is mounted.
type Form string

// The forms of Persist. Bind is a directory, or file, of its own, which the base no longer reaches once it was seeded; Overlay is
// an upper over what the base has there.
const (
	Bind    Form = "bind"
	Overlay Form = "overlay"
)

// BaseChange is what happens to an upper that was written on another base.
type BaseChange string

// The policies for a changed base.
const (
	MergeChange BaseChange = "merge"      // three-way merge, path by path
	Keep        BaseChange = "keep"       // stack the upper as it is
	Quarantine  BaseChange = "quarantine" // move it aside, begin with a fresh one, and say so
	Reset       BaseChange = "reset"      // begin with a fresh one; the old can be had back until the boot is blessed
)

// Limits of a set of rules.
const (
	MaxRules = 256
	maxPath  = 1024
	maxGlobs = 256
)

// Rule is what happens to one path. The zero value of a field leaves it to the action.
type Rule struct {
	Path       string     `json:"path" toml:"path"` // absolute and clean
	Action     Action     `json:"action" toml:"action"`
	Form       Form       `json:"form" toml:"form"`               // of Persist
	Owner      string     `json:"owner" toml:"owner"`             // UID:GID of the path itself, in numbers; "" as it was seeded
	Mode       string     `json:"mode" toml:"mode"`               // of the path itself, octal
	Allow      []string   `json:"allow" toml:"allow"`             // globs below Path: what survives a boot; none is everything
	Deny       []string   `json:"deny" toml:"deny"`               // globs below Path: what does not, whatever Allow says
	BaseChange BaseChange `json:"base-change" toml:"base-change"` // of an upper
	Entries    []string   `json:"entries" toml:"entries"`         // globs below Path: files that are merged line by line, by their first field
	Site       []Action   `json:"site" toml:"site"`               // what the site may say instead; none is nothing
}

// Overlaid reports whether the rule has an upper of its own that is kept.
func (r Rule) Overlaid() bool { return r.Action == Merge || r.Action == Persist && r.Form == Overlay }

// Kept reports whether the rule needs a state that outlives a boot.
func (r Rule) Kept() bool { return r.Action == Persist || r.Action == Merge }

// OnBaseChange is the policy for the rule's upper: what it says, or the default of its action.
func (r Rule) OnBaseChange() BaseChange {
	switch {
	case r.BaseChange != "":
		return r.BaseChange
	case r.Action == Merge:
		return MergeChange
	}
	return Keep
}

// Walk visits the fields for package canonical.
func (r *Rule) Walk(c *canonical.Coder) {
	canonical.String(c, "path", &r.Path)
	canonical.String(c, "action", &r.Action)
	canonical.String(c, "form", &r.Form)
	canonical.String(c, "owner", &r.Owner)
	canonical.String(c, "mode", &r.Mode)
	canonical.Strings(c, "allow", &r.Allow, maxGlobs)
	canonical.Strings(c, "deny", &r.Deny, maxGlobs)
	canonical.String(c, "base-change", &r.BaseChange)
	canonical.Strings(c, "entries", &r.Entries, maxGlobs)
	canonical.Strings(c, "site", &r.Site, len(Actions))
}

// reserved are paths that belong to the kernel, to the init or to the next boot: no rule may touch them, or what lies below.
var reserved = []string{"/proc", "/sys", "/dev", "/run"}

// Check reports everything that is wrong with a rule taken by itself, each with its field.
func (r Rule) Check() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &FieldError{field, fmt.Errorf(format, args...)})
	}
	if err := CheckPath(r.Path); err != nil {
		bad("path", "%w", err)
	}
	if !known(Actions, r.Action) {
		bad("action", "%q is none of persist, merge, ephemeral, read-only, mask", clip(string(r.Action)))
	}
	switch r.Form {
	case "", Bind, Overlay:
	default:
		bad("form", "%q is neither bind nor overlay", clip(string(r.Form)))
	}
	if r.Form != "" && r.Action != Persist {
		bad("form", "is for the action persist; %q has one form only", r.Action)
	}
	if r.Owner != "" {
		if _, _, err := ParseOwner(r.Owner); err != nil {
			bad("owner", "%w", err)
		}
	}
	if r.Mode != "" {
		if _, err := ParseMode(r.Mode); err != nil {
			bad("mode", "%w", err)
		}
	}
	if (r.Owner != "" || r.Mode != "") && !r.Kept() && r.Action != Ephemeral {
		bad("mode", "owner and mode are for paths that can be written; %q is not", r.Action)
	}
	if len(r.Allow)+len(r.Deny) > 0 && !r.Kept() {
		bad("allow", "allow and deny say what survives, and under the action %q nothing does", r.Action)
	}
	switch r.BaseChange {
	case "", MergeChange, Keep, Quarantine, Reset:
	default:
		bad("base-change", "%q is none of merge, keep, quarantine, reset", clip(string(r.BaseChange)))
	}
	if r.BaseChange != "" && !r.Overlaid() {
		bad("base-change", "is for an upper: the action merge, or persist in the form overlay")
	}
	if len(r.Entries) > 0 && r.OnBaseChange() != MergeChange {
		bad("entries", "is for paths that are merged when the base changes")
	}
	for _, g := range []struct {
		field string
		globs []string
	}{{"allow", r.Allow}, {"deny", r.Deny}, {"entries", r.Entries}} {
		if len(g.globs) > maxGlobs {
			bad(g.field, "%d globs are more than %d", len(g.globs), maxGlobs)
		}
		for _, glob := range g.globs {
			if err := CheckGlob(glob); err != nil {
				bad(g.field, "%w", err)
			}
		}
	}
	for _, a := range r.Site {
		if !known(Actions, a) {
			bad("site", "%q is not an action", clip(string(a)))
		}
	}
	return errors.Join(errs...)
}

// FieldError is something wrong with one field of a rule.
type FieldError struct {
	Field string
	Err   error
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }
func (e *FieldError) Unwrap() error { return e.Err }

// CheckPath reports whether p can have a rule.
func CheckPath(p string) error {
	switch {
	case !path.IsAbs(p):
		return fmt.Errorf("%q is not an absolute path", clip(p))
	case len(p) > maxPath:
		return fmt.Errorf("%d bytes are more than %d", len(p), maxPath)
	case path.Clean(p) != p || strings.ContainsAny(p, "\x00\n"):
		return fmt.Errorf("%q is not a clean path; want %q", clip(p), clip(path.Clean(p)))
	case p == "/":
		return errors.New("the whole root has no rule: say root.upper = \"tmpfs\" or \"persistent\"")
	}
	for _, r := range reserved {
		if Within(p, r) {
			return fmt.Errorf("%s belongs to the kernel and the running system, and is new at each boot", r)
		}
	}
	return nil
}

// ParseOwner reads UID:GID.
func ParseOwner(s string) (uid, gid int, err error) {
	u, g, ok := strings.Cut(s, ":")
	un, uerr := strconv.ParseUint(u, 10, 32)
	gn, gerr := strconv.ParseUint(g, 10, 32)
	const nobody = 1<<32 - 1 // means "leave alone" to chown(2)
	if !ok || uerr != nil || gerr != nil || un == nobody || gn == nobody {
		return 0, 0, fmt.Errorf("%q: want UID:GID in numbers, which are the same in every release", clip(s))
	}
	return int(un), int(gn), nil
}

// ParseMode reads an octal mode with its special bits.
func ParseMode(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > 0o7777 || len(s) < 3 {
		return 0, fmt.Errorf("%q is not an octal mode such as 0755", clip(s))
	}
	return uint32(n), nil
}

// Within reports whether path p lies at or below dir.
func Within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

func known(list []Action, a Action) bool {
	for _, k := range list {
		if k == a {
			return true
		}
	}
	return false
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
