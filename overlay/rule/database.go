package rule

import "slices"

// Databases are the directories in which package managers note what is installed.
var Databases = []string{"/var/lib/dpkg", "/var/lib/rpm", "/var/lib/pacman", "/usr/lib/sysimage/rpm", "/lib/apk/db", "/usr/lib/apk/db"}

// OnKeptRoot is what the rules of a base come to on a root that is kept, although the base was built for a volatile one: a database
// that is to be forgotten with the files that it lists is kept with them, as an upper, for what a rule around it has kept so far
// began without it.
func OnKeptRoot(rules []Rule) []Rule {
	kept := slices.Clone(rules)
	for i, r := range kept {
		if r.Action == Ephemeral && slices.Contains(Databases, r.Path) {
			kept[i] = Rule{Path: r.Path, Action: Persist, Form: Overlay}
		}
	}
	return kept
}
