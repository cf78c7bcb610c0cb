package rule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Origin says who made a rule.
type Origin string

// The origins.
const (
	FromBase Origin = "base" // signed
	FromSite Origin = "site" // the site's own word, as far as the base allows it
)

// Effective is a rule that is in force.
type Effective struct {
	Rule
	Origin Origin
}

// CheckSet reports everything that is wrong with the rules of a base, all at once:
//
//	two rules for one path                           which of them?
//	a rule below a masked path                       nothing can be seen there
//	a rule that needs a state, and none is declared  hasState is false
func CheckSet(rules []Rule, hasState bool) error {
	var errs []error
	if len(rules) > MaxRules {
		errs = append(errs, fmt.Errorf("%d rules are more than %d", len(rules), MaxRules))
	}
	for i, r := range rules {
		fail := func(field, format string, args ...any) {
			errs = append(errs, &RuleError{i, r.Path, &FieldError{field, fmt.Errorf(format, args...)}})
		}
		if err := r.Check(); err != nil {
			errs = append(errs, &RuleError{i, r.Path, err})
		}
		for _, other := range rules[:i] {
			switch {
			case other.Path == r.Path:
				fail("path", "a rule for this path says %s already", other.Action)
			case other.Action == Mask && Within(r.Path, other.Path):
				fail("path", "lies below %s, which is masked", other.Path)
			case r.Action == Mask && Within(other.Path, r.Path):
				fail("action", "would hide %s, which has a rule of its own", other.Path)
			}
		}
		if r.Kept() && !hasState {
			fail("action", "%q needs a place to keep things: declare [state], or say root.upper = \"tmpfs\" and no such rule", r.Action)
		}
	}
	return errors.Join(errs...)
}

// RuleError is something wrong with one rule of a set.
type RuleError struct {
	Index int
	Path  string
	Err   error
}

func (e *RuleError) Error() string {
	return fmt.Sprintf("rule for %s: %s", clip(e.Path), strings.ReplaceAll(e.Err.Error(), "\n", "; "))
}
func (e *RuleError) Unwrap() error { return e.Err }

// InForce joins the rules of the base with those of the site, in the order in which they are mounted: by path, so that the
// deepest comes last and wins.
//
//	the base has a rule for the path    its Site lists the action    the site's rule
//	                                    it does not                  refused, the base's rule holds
//	the base has none                   a glob of paths matches      the site's rule
//	                                    none does                    refused
//
// What the site may not say is reported, and the rest holds: a site that asks for too much must not lose what it may have.
func InForce(base, site []Rule, paths []string) ([]Effective, error) {
	var errs []error
	effective := Ordered(base)
	refuse := func(r Rule, format string, args ...any) {
		errs = append(errs, fmt.Errorf("rule of the site for %s: %w", clip(r.Path), fmt.Errorf(format, args...)))
	}
	for i, r := range site {
		if i == MaxRules {
			errs = append(errs, fmt.Errorf("rules of the site: more than %d", MaxRules))
			break
		}
		if err := r.Check(); err != nil {
			refuse(r, "%w", err)
			continue
		}
		at := slices.IndexFunc(effective, func(e Effective) bool { return e.Path == r.Path })
		hidden := slices.IndexFunc(effective, func(e Effective) bool {
			return e.Path != r.Path && (e.Action == Mask && Within(r.Path, e.Path) || r.Action == Mask && Within(e.Path, r.Path))
		})
		switch {
		case at >= 0 && effective[at].Origin == FromSite:
			refuse(r, "there are two")
		case at >= 0 && !slices.Contains(effective[at].Site, r.Action):
			refuse(r, "the base does not allow %s there; it allows %s", r.Action, listed(effective[at].Site))
		case at < 0 && !slices.ContainsFunc(paths, func(g string) bool { return Match(strings.TrimPrefix(g, "/"), r.Path[1:]) }):
			refuse(r, "the base does not let the site make rules there (state.rule-paths)")
		case hidden >= 0:
			refuse(r, "%s and the rule for %s hide one another", r.Action, effective[hidden].Path)
		case at >= 0:
			r.Site = nil
			effective[at] = Effective{r, FromSite}
		default:
			effective = append(effective, Effective{r, FromSite})
		}
	}
	order(effective)
	return effective, errors.Join(errs...)
}

// Ordered are the rules of the base alone, in the order in which they are mounted.
func Ordered(base []Rule) []Effective {
	effective := make([]Effective, 0, len(base))
	for _, r := range base {
		effective = append(effective, Effective{r, FromBase})
	}
	order(effective)
	return effective
}

// order sorts a few rules that are mostly in order: PID 1 needs no larger sort.
func order(effective []Effective) {
	for i := range effective {
		for j := i; j > 0 && comparePaths(effective[j].Path, effective[j-1].Path) < 0; j-- {
			effective[j], effective[j-1] = effective[j-1], effective[j]
		}
	}
}

// comparePaths orders a directory before what lies in it, and siblings by name, whatever bytes are smaller than a slash.
func comparePaths(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

func listed(actions []Action) string {
	if len(actions) == 0 {
		return "nothing but its own rule"
	}
	words := make([]string, len(actions))
	for i, a := range actions {
		words[i] = string(a)
	}
	return strings.Join(words, ", ")
}
