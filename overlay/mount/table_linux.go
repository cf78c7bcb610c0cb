package mount

import (
	"fmt"
	"io"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// Entry is one line of the mount table.
type Entry struct {
	ID, Parent int
	Target     string
	Type       string
	Source     string
	Device     string // MAJOR:MINOR
}

// ReadTable parses a table in the format of /proc/self/mountinfo, see proc(5), in its order: a mount comes after the one that
// it lies on.
func ReadTable(r io.Reader) ([]Entry, error) {
	infos, err := mountinfo.GetMountsFromReader(r, nil)
	if err != nil {
		return nil, fmt.Errorf("parse mount table: %w", err)
	}
	table := make([]Entry, 0, len(infos))
	for _, m := range infos {
		table = append(table, Entry{m.ID, m.Parent, m.Mountpoint, m.FSType, m.Source, fmt.Sprintf("%d:%d", m.Major, m.Minor)})
	}
	return table, nil
}

// Below returns the entries at or below dir, last mounted first: the order in which they can be unmounted.
func Below(table []Entry, dir string) []Entry {
	var below []Entry
	for i := len(table) - 1; i >= 0; i-- {
		t := table[i].Target
		if t == dir || dir == "/" || strings.HasPrefix(t, strings.TrimSuffix(dir, "/")+"/") {
			below = append(below, table[i])
		}
	}
	return below
}
