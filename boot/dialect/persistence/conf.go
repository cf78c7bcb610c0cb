package persistence

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Name is the file, at the root of what is kept.
const Name = "persistence.conf"

// Limits of the file.
const (
	MaxSize   = 64 << 10 // bytes
	maxMounts = 256
	maxPath   = 4095 // bytes, PATH_MAX without its NUL
)

// Kind is how something that is kept comes into the root.
type Kind string

// The kinds; without a word it is Bind.
const (
	Bind  Kind = "bind"  // the directory that is kept is seen there instead of the image's
	Union Kind = "union" // what was written is kept in an upper over the image's directory
	Link  Kind = "link"  // each file that is kept is a symbolic link there
)

// Mount is one line.
type Mount struct {
	Dest   string // clean absolute path in the root
	Kind   Kind
	Source string // clean path below the root of what is kept, "." for that root
}

// Parse returns what the file asks for, in the order in which it is to be done, and for each line that is skipped, as live-boot skips
// it, the reason. The error is for a file that asks for the impossible: two that lie in one another, or more than anybody writes.
func Parse(text []byte) (mounts []Mount, skipped []string, err error) {
	if len(text) > MaxSize {
		return nil, nil, fmt.Errorf("%s of %d bytes is longer than %d", Name, len(text), MaxSize)
	}
	for n, line := range strings.Split(string(text), "\n") {
		line = strings.TrimLeft(line, " \t\r")
		if line = strings.TrimRight(line, " \t\r"); line == "" || line[0] == '#' {
			continue
		}
		m, err := parseLine(line)
		if err == nil && slices.ContainsFunc(mounts, func(o Mount) bool { return o.Dest == m.Dest && (o.Kind == Link) == (m.Kind == Link) }) {
			err = errors.New("stands there twice; the first counts")
		}
		if err != nil {
			skipped = append(skipped, fmt.Sprintf("line %d, %q: %v", n+1, clip(line), err))
			continue
		}
		if mounts = append(mounts, m); len(mounts) > maxMounts {
			return nil, nil, fmt.Errorf("%s has more than %d lines", Name, maxMounts)
		}
	}
	slices.SortStableFunc(mounts, func(a, b Mount) int {
		if (a.Kind == Link) != (b.Kind == Link) { // a mount would hide links that are there already
			if a.Kind == Link {
				return 1
			}
			return -1
		}
		return strings.Compare(a.Dest, b.Dest)
	})
	return mounts, skipped, nested(mounts)
}

func parseLine(line string) (Mount, error) {
	dir, options := line, ""
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		dir, options = line[:i], line[i:]
	}
	m := Mount{Kind: Bind}
	if !strings.HasPrefix(dir, "/") || dots(dir) || len(dir) > maxPath || strings.ContainsRune(line, 0) {
		return m, errors.New("want an absolute path, and neither . nor .. in it")
	}
	m.Dest = path.Clean(dir)
	if strings.HasPrefix(m.Dest, "/lib") || m.Dest == "/run/live" || strings.HasPrefix(m.Dest, "/run/live/") {
		return m, errors.New("nothing below /lib or /run/live can be kept")
	}
	m.Source = strings.TrimPrefix(m.Dest, "/")
	for _, o := range strings.FieldsFunc(options, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }) {
		source, isSource := strings.CutPrefix(o, "source=")
		switch {
		case isSource && source != "." && (source == "" || strings.HasPrefix(source, "/") || dots(source)):
			return m, fmt.Errorf("%q: want . or a relative path, and neither . nor .. in it", clip(o))
		case isSource:
			m.Source = path.Clean(source)
		case o == string(Bind) || o == string(Union) || o == string(Link):
			m.Kind = Kind(o)
		default:
			return m, fmt.Errorf("option %q is unknown; want bind, union, link or source=", clip(o))
		}
	}
	if m.Source == "" {
		m.Source = "."
	}
	if m.Dest == "/" && m.Kind != Union {
		return m, errors.New("the whole root is kept by union alone")
	}
	return m, nil
}

// dots reports whether a path has a component . or ...
func dots(p string) bool {
	return slices.ContainsFunc(strings.Split(p, "/"), func(c string) bool { return c == "." || c == ".." })
}

// nested refuses sources that lie in one another. A union of the root of what is kept lies in two directories of its own there.
func nested(mounts []Mount) error {
	var used []string
	for _, m := range mounts {
		if m.Kind == Union {
			used = append(used, path.Join(m.Source, Upper), path.Join(m.Source, Work))
		} else {
			used = append(used, m.Source)
		}
	}
	slices.Sort(used)
	for i, a := range used {
		for _, b := range used[i+1:] {
			if a == b || a == "." || b == "." || strings.HasPrefix(b, a+"/") {
				return fmt.Errorf("%s: the sources %s and %s lie in one another; give each a source= of its own", Name, a, b)
			}
		}
	}
	return nil
}

// The directories of a union, in its source.
const (
	Upper = "rw"
	Work  = "work"
)

func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
