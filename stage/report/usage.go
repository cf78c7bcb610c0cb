package report

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"veneer/overlay/changes"
)

// outOfUse are the directories of the state of which nothing is seen.
var outOfUse = []string{"snapshots", "aside", "trash"}

// OutOfUse are the places of the state that nobody sees, as far as they are there.
func (r *Report) OutOfUse(root string) []changes.Place {
	var all []changes.Place
	for _, name := range outOfUse {
		dir := filepath.Join(root, r.State.Mount, name)
		if info, err := os.Lstat(dir); r.State.Mount != "" && err == nil && info.IsDir() {
			all = append(all, changes.Place{Role: name, Dir: dir})
		}
	}
	return all
}

// Usage writes for people what fills the places.
func Usage(w io.Writer, all []changes.Usage) error {
	var b strings.Builder
	for i, u := range all {
		if i > 0 {
			b.WriteString("\n")
		}
		name := u.Role
		if u.Path != "" {
			name += " of " + plain(u.Path)
		}
		fs := u.FileSystem
		fmt.Fprintf(&b, "%s: %s in %d files; %s of %s are free", name, Size(u.Bytes), u.Files, Size(fs.Free), Size(fs.Size))
		b.WriteString("\n" + table(func(row func(cells ...string)) {
			for _, c := range u.Top {
				path := c.Path
				if c.Kind == changes.Directory {
					path += "/"
				}
				row(fmt.Sprintf("%10s", Size(c.Bytes)), path)
			}
		}))
		for _, e := range u.Errors {
			fmt.Fprintf(&b, "  not counted: %s\n", plain(e))
		}
	}
	if len(all) == 0 {
		b.WriteString("nothing is written there\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
