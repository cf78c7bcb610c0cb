package keeper

import "veneer/overlay/rule"

// rules joins the rules of the base with those of the site, and says which of the latter do not hold. A file of the site that cannot
// be read is one such: the base's own rules hold all the same.
func (s *Keeper) rules(base []rule.Rule, paths []string) ([]rule.Effective, string) {
	site, err := s.SiteRules()
	if err != nil {
		return rule.Ordered(base), err.Error()
	}
	inForce, err := rule.InForce(base, site, paths)
	if err != nil {
		return inForce, err.Error()
	}
	return inForce, ""
}
