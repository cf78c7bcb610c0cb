package build

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/overlay/identity"
	"veneer/overlay/rule"
	"veneer/overlay/rule/rulefile"
)

// rulesDir is where a tree carries rules of its own, in files that end in .toml: the distribution's word, which the veneer.toml of
// a build may replace path by path.
const rulesDir = "usr/lib/veneer/rules.d"

// gatherRules joins the rules of the trees with those of the veneer.toml and holds them against what the trees have at their paths.
// Each rule that cannot mean what it says is an error here, so that no machine finds out at its boot.
func (b *builder) gatherRules() ([]rule.Rule, error) {
	s := b.stack()
	if s == nil {
		return nil, nil
	}
	carried, err := s.carriedRules()
	if err != nil {
		return nil, err
	}
	c := &b.spec.Config
	var errs []error
	rules := make([]rule.Rule, 0, len(carried)+len(c.Rules)+1)
	own := slices.Clone(c.Rules)
	if etc, err := c.etcRule(); err != nil {
		errs = append(errs, err)
	} else if etc != nil {
		// The default for /etc gives way to what the tree says; a policy that was asked for does not.
		if at := slices.IndexFunc(carried, func(r carriedRule) bool { return r.Path == "/etc" }); at < 0 || c.Etc.Policy != "" {
			own = append(own, RuleConfig{Rule: *etc})
		}
	}
	for _, r := range carried {
		at := slices.IndexFunc(own, func(o RuleConfig) bool { return o.Path == r.Path })
		switch {
		case at < 0:
			rules = append(rules, r.Rule)
		case !own[at].Replace:
			errs = append(errs, fmt.Errorf("two rules for %s: that of the veneer.toml, and one in %s: say it as [[rules]] with replace = true", r.Path, r.from))
		}
	}
	for _, r := range own {
		rules = append(rules, r.Rule)
	}
	rules = append(rules, b.databaseRules(s, rules)...)
	keeps := identity.Kept{Root: c.Root.Upper == string(boot.UpperPersistent), Rules: rules}
	errs = append(errs, identity.Contradicted(c.identity(), keeps))
	rules = append(rules, identity.Rules(c.identity(), keeps)...)
	slices.SortFunc(rules, func(x, y rule.Rule) int { return comparePaths(x.Path, y.Path) })
	errs = append(errs, rule.CheckSet(rules, c.hasState()))
	for _, r := range rules {
		errs = append(errs, s.fits(r))
	}
	errs = append(errs, s.fstabFits(rules))
	return rules, errors.Join(errs...)
}

// carriedRule is a rule that a tree brings along.
type carriedRule struct {
	rule.Rule
	from string
}

// carriedRules reads the rules of the trees. A file hides those of the same name in lower trees, as it will when they are stacked.
func (s stack) carriedRules() ([]carriedRule, error) {
	var rules []carriedRule
	var errs []error
	seen := map[string]bool{}
	for _, t := range s {
		for _, e := range t.Entries {
			name, ok := strings.CutPrefix(e.Path, rulesDir+"/")
			if !ok || strings.Contains(name, "/") || !strings.HasSuffix(name, ".toml") || seen[name] {
				continue
			}
			seen[name] = true
			if e.kind() != unix.S_IFREG {
				continue
			}
			from := "/" + e.Path
			found, err := t.readRules(e)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %s: %w", t.Source, from, err))
				continue
			}
			for _, r := range found {
				if at := slices.IndexFunc(rules, func(c carriedRule) bool { return c.Path == r.Path }); at >= 0 {
					errs = append(errs, fmt.Errorf("two rules for %s: in %s and in %s", r.Path, from, rules[at].from))
					continue
				}
				rules = append(rules, carriedRule{r, from})
			}
		}
	}
	return rules, errors.Join(errs...)
}

func (t *Tree) readRules(e *Entry) ([]rule.Rule, error) {
	text, err := t.readFile(e, rulefile.Max)
	if err != nil {
		return nil, err
	}
	return rulefile.Parse(text)
}

// readFile reads a small file of the tree.
func (t *Tree) readFile(e *Entry, most int64) ([]byte, error) {
	if e.Size > most {
		return nil, fmt.Errorf("%d bytes are more than %d", e.Size, most)
	}
	f, err := t.content.open(e)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// fits holds a rule against what the trees have at its path.
func (s stack) fits(r rule.Rule) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("rule for %s: %w", r.Path, fmt.Errorf(format, args...))
	}
	parts := strings.Split(strings.TrimPrefix(r.Path, "/"), "/")
	for i := range parts {
		p := strings.Join(parts[:i+1], "/")
		_, e := s.lookup(p)
		switch {
		case e == nil && r.Action == rule.ReadOnly:
			return fail("the tree has nothing there that could be read")
		case e == nil:
			return nil
		case e.kind() == unix.S_IFLNK:
			return fail("/%s is a symbolic link to %s in the tree; name the path that it leads to", p, quotePath(e.Target))
		case i < len(parts)-1 && !e.isDir():
			return fail("/%s is no directory in the tree", p)
		case i < len(parts)-1:
		case !e.isDir() && r.Overlaid():
			return fail("the tree has a file there, and %s is for directories; persist keeps a file", r.Action)
		case !e.isDir() && r.Action == rule.Ephemeral:
			return fail("the tree has a file there; make its directory ephemeral")
		}
	}
	return nil
}

// fstabFits refuses an /etc/fstab that mounts something else where a rule keeps things: systemd would mount it over them, or wait
// for a device that is not there.
func (s stack) fstabFits(rules []rule.Rule) error {
	t, e := s.lookup("etc/fstab")
	if e == nil || e.kind() != unix.S_IFREG {
		return nil
	}
	text, err := t.readFile(e, rulefile.Max)
	if err != nil {
		return fmt.Errorf("/etc/fstab of the tree: %w", err)
	}
	var errs []error
	for i, line := range strings.Split(string(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		target := path.Clean(fields[1])
		for _, r := range rules {
			if r.Path == target {
				errs = append(errs, fmt.Errorf("/etc/fstab of the tree, line %d: mounts %s, for which there is a rule (%s): take the line out, or the rule", i+1, target, r.Action))
			}
		}
	}
	return errors.Join(errs...)
}

// databaseRules keep a package database with the files that it speaks of: on a volatile root a kept database would list packages
// whose files are gone after the next boot, and lack those of a new base.
func (b *builder) databaseRules(s stack, rules []rule.Rule) []rule.Rule {
	if b.spec.Config.Root.Upper != string(boot.UpperTmpfs) {
		return nil
	}
	var added []rule.Rule
	for _, db := range rule.Databases {
		_, e := s.lookup(db[1:])
		if e == nil || !e.isDir() {
			continue
		}
		var around rule.Rule
		for _, r := range rules {
			if rule.Within(db, r.Path) && len(r.Path) >= len(around.Path) {
				around = r
			}
			if rule.Within(r.Path, db) {
				around = rule.Rule{} // somebody has thought about it
				break
			}
		}
		if around.Kept() {
			added = append(added, rule.Rule{Path: db, Action: rule.Ephemeral})
			b.report.Notes = append(b.report.Notes, fmt.Sprintf("rule added: %s is ephemeral, because the packages that it lists are: %s is kept and the root is not", db, around.Path))
		}
	}
	return added
}
