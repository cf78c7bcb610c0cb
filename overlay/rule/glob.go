package rule

import (
	"fmt"
	"path"
	"strings"
)

// CheckGlob reports whether g is a pattern that Match understands: slash-separated parts below the path of its rule, each as
// path.Match has it, or ** for any number of parts.
func CheckGlob(g string) error {
	if g == "" || strings.HasPrefix(g, "/") || strings.HasSuffix(g, "/") || len(g) > maxPath || strings.ContainsRune(g, 0) {
		return fmt.Errorf("glob %q: want a path below that of the rule, without a slash at its ends", clip(g))
	}
	for _, part := range strings.Split(g, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("glob %q is not clean", clip(g))
		}
		if _, err := path.Match(part, ""); err != nil {
			return fmt.Errorf("glob %q: %w", clip(g), err)
		}
	}
	return nil
}

// Match reports whether the glob matches the relative path name, or a directory that name lies in.
func Match(glob, name string) bool {
	return match(strings.Split(glob, "/"), strings.Split(name, "/"))
}

// match consumes parts of the pattern; once it is used up, whatever is left of the name lies below a match. Where ** meets many
// parts the work is bounded by the product of both lengths, since a ** only ever needs to be tried at its last occurrence.
func match(glob, name []string) bool {
	star, back := -1, 0
	g, n := 0, 0
	for {
		switch {
		case g == len(glob):
			return true
		case glob[g] == "**":
			star, back = g, n
			g++
			continue
		case n < len(name):
			if ok, _ := path.Match(glob[g], name[n]); ok {
				g, n = g+1, n+1
				continue
			}
		}
		// A dead end: let the last ** take one part more.
		if star < 0 || back >= len(name) {
			return false
		}
		back++
		g, n = star+1, back
	}
}

// Survives reports whether a path below the rule's own, given relative to it, outlives a boot: one that Allow matches, or any
// where Allow is empty, unless Deny matches it.
func (r Rule) Survives(name string) bool {
	for _, g := range r.Deny {
		if Match(g, name) {
			return false
		}
	}
	for _, g := range r.Allow {
		if Match(g, name) {
			return true
		}
	}
	return len(r.Allow) == 0
}

// ByEntry reports whether a file below the rule's path is merged line by line by declaration.
func (r Rule) ByEntry(name string) bool {
	for _, g := range r.Entries {
		if Match(g, name) {
			return true
		}
	}
	return false
}
