package report

import (
	"context"
	"fmt"
	"path"
	"strings"

	"veneer/boot"
	"veneer/overlay/entry"
	mergelive "veneer/overlay/merge/live"
)

// Conflict is a path of which a merge of this boot or of an earlier one kept the local side, and nobody has decided yet. Its words are
// those of `veneer etc diff`.
type Conflict struct {
	Directory string `json:"directory"` // that was merged: /etc
	Path      string `json:"path"`      // absolute, as entry.Quote writes it; so is the side
	Verdict   string `json:"verdict"`
	Side      string `json:"side"` // where the base's side lies, empty for nowhere
	Note      string `json:"note"`
}

// maxConflicts is how many conflicts the text lists of each merged directory.
const maxConflicts = 20

// undecided is a merged directory with its open conflicts.
type undecided struct {
	dir  string
	open []Conflict
	err  error // they cannot be told
}

// conflicts looks for the conflicts that are open now. Where no merge has left any it costs a look at the report of each.
func (r *Report) conflicts(ctx context.Context) []undecided {
	var all []undecided
	for _, dir := range r.merged() {
		p := undecided{dir: dir}
		found, err := mergelive.Find(r.root, dir)
		if err != nil {
			p.err = err
			all = append(all, p)
			continue
		}
		items, err := found.Conflicts(ctx)
		p.err = err
		for _, i := range items {
			side := ""
			if i.Side != "" {
				side = entry.Quote(path.Join(dir, i.Side))
			}
			p.open = append(p.open, Conflict{dir, entry.Quote(path.Join(dir, i.Path)), string(i.Verdict), side, i.Note})
		}
		if err != nil || len(p.open) > 0 {
			all = append(all, p)
		}
	}
	return all
}

// merged are the directories with an upper that is kept, which a new base may be merged into.
func (r *Report) merged() []string {
	var dirs []string
	if !r.kept() {
		return nil
	}
	if r.Record.Upper.Kind == string(boot.UpperPersistent) {
		dirs = append(dirs, "/")
	}
	for _, rule := range r.Rules {
		if rule.Form == "overlay" && (rule.Action == "merge" || rule.Action == "persist") {
			dirs = append(dirs, rule.Path)
		}
	}
	return dirs
}

// openConflicts tells people of the open conflicts, and by which words to decide them.
func openConflicts(all []undecided) string {
	var b strings.Builder
	for _, p := range all {
		if p.err != nil {
			fmt.Fprintf(&b, "\nOpen conflicts under %s cannot be told: %s\n", plain(p.dir), plain(p.err.Error()))
			continue
		}
		fmt.Fprintf(&b, "\nOpen conflicts under %s, of which the local side is in force:\n", plain(p.dir))
		for n, c := range p.open {
			if n == maxConflicts {
				fmt.Fprintf(&b, "  and %d more\n", len(p.open)-n)
				break
			}
			fmt.Fprintf(&b, "  %-10s  %s", c.Verdict, unquoted(c.Path))
			if c.Side != "" {
				fmt.Fprintf(&b, "; the base's is %s", unquoted(c.Side))
			} else if c.Note != "" {
				fmt.Fprintf(&b, "; %s", plain(c.Note))
			}
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "  To decide: %s\n", mergelive.Verb("diff", p.dir))
	}
	return b.String()
}

// unquoted is a path of a report as people see it.
func unquoted(path string) string {
	if raw, ok := entry.Unquote(path); ok {
		return plain(raw)
	}
	return plain(path)
}
