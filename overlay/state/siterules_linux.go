package state

import (
	"errors"
	"fmt"
	"io/fs"

	"veneer/images/canonical"
	"veneer/overlay/rule"
)

// siteRulesFile holds the rules that the site made, in the form that the init reads.
const siteRulesFile = "site-rules.json"

// siteRulesFormat is the version of that form.
const siteRulesFormat = 1

type siteRules struct {
	format int
	rules  []rule.Rule
}

func (s *siteRules) walk(c *canonical.Coder) {
	canonical.Number(c, "format", &s.format)
	canonical.List(c, "rules", &s.rules, rule.MaxRules, func(c *canonical.Coder, r *rule.Rule) { r.Walk(c) })
}

// SiteRules are the rules that the site made; none where it made none. They are not checked: what the base allows of them is the
// caller's to say (rule.InForce).
func (d *Dir) SiteRules() ([]rule.Rule, error) {
	text, err := d.read(siteRulesFile, maxSmall)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rules, err := ParseSiteRules(text)
	return rules, d.wrap("read", siteRulesFile, err)
}

// ParseSiteRules reads what SetSiteRules writes, and nothing else.
func ParseSiteRules(text []byte) ([]rule.Rule, error) {
	var s siteRules
	if err := canonical.Read(text, s.walk); err != nil {
		return nil, err
	}
	if s.format != siteRulesFormat {
		return nil, fmt.Errorf("rules of the site have format %d, this veneer knows %d", s.format, siteRulesFormat)
	}
	return s.rules, nil
}

// SetSiteRules replaces the rules of the site, from the next boot on. Without any the file goes.
func (d *Dir) SetSiteRules(rules []rule.Rule) error {
	if len(rules) == 0 {
		return d.remove(siteRulesFile)
	}
	s := siteRules{siteRulesFormat, rules}
	return d.write(siteRulesFile, canonical.Write(s.walk))
}
