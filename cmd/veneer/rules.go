package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"veneer/overlay/rule"
	"veneer/overlay/rule/rulefile"
	"veneer/stage"
	"veneer/stage/report"
)

// siteRulesDir is where a site writes its rules.
const siteRulesDir = "/etc/veneer/rules.d"

// siteRules is what the verb says of the rules of a site.
type siteRules struct {
	Files []string    `json:"files"`
	Rules []rule.Rule `json:"rules"`
	Was   []rule.Rule `json:"was"` // those that were to hold at the next boot before
}

func newRules() *cobra.Command {
	var v verb
	var check, drop bool
	cmd := &cobra.Command{
		Use:   "rules [--check | --clear] [FILE...]",
		Short: "Set what happens to single paths on this machine, as far as the base allows it",
		Long: `Read the rules of the site from FILE, or from ` + siteRulesDir + `/*.toml, hold them against what the base allows (its rules
name the actions that the site may choose in 'site', and the paths for rules of its own in 'state.rule-paths'), and keep them for
the next boot. A rule that the base does not allow is an error, and nothing is changed. What is in force now: veneer status --rules`,
		Example: `  veneer rules --check
  veneer rules
  veneer rules --clear`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, files []string) error {
			if drop && (check || len(files) > 0) {
				return usageError{errors.New("rules: --clear takes neither files nor --check")}
			}
			return v.with(func(k *keptState) error {
				was, err := k.SiteRules()
				if err != nil && !drop {
					return fmt.Errorf("%w; 'veneer rules --clear' begins anew", err)
				}
				rep := siteRules{Files: []string{}, Rules: []rule.Rule{}, Was: was}
				if !drop {
					if rep.Files, rep.Rules, err = readSiteRules(v.root, files); err != nil {
						return err
					}
					if err := allowedRules(v.root, k.record, rep.Rules); err != nil {
						return err
					}
				}
				if !check && !v.dryRun {
					if err := k.SetSiteRules(rep.Rules); err != nil {
						return err
					}
				}
				return v.print(cmd.OutOrStdout(), rep, func(w io.Writer) { rep.print(w, check || v.dryRun) })
			})
		},
	}
	v.flags(cmd, "say which rules would hold, and keep nothing")
	cmd.Flags().BoolVar(&check, "check", false, "only check the files")
	cmd.Flags().BoolVar(&drop, "clear", false, "take back all rules of the site")
	return cmd
}

func (r siteRules) print(w io.Writer, onlyChecked bool) {
	for _, one := range r.Rules {
		fmt.Fprintf(w, "%-10s %s\n", one.Action, printable(one.Path))
	}
	switch {
	case onlyChecked:
		fmt.Fprintf(w, "The base allows all of them (%d); nothing was changed.\n", len(r.Rules))
	case len(r.Rules) == 0:
		fmt.Fprintln(w, "From the next boot on the site has no rules.")
	default:
		fmt.Fprintln(w, "They hold from the next boot on.")
	}
}

// readSiteRules reads the files, or those in the usual directory, in the order of their names.
func readSiteRules(root string, files []string) ([]string, []rule.Rule, error) {
	if len(files) == 0 {
		var err error
		if files, err = filepath.Glob(filepath.Join(root, siteRulesDir, "*.toml")); err != nil {
			return nil, nil, err
		}
		slices.Sort(files)
	}
	if len(files) == 0 {
		return nil, nil, fmt.Errorf("no file in %s ends in .toml; 'veneer rules --clear' takes back what was set", siteRulesDir)
	}
	var rules []rule.Rule
	var errs []error
	for _, name := range files {
		info, err := os.Stat(name)
		if err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("%s is not a regular file", name)
		}
		var text []byte
		if err == nil {
			text, err = os.ReadFile(name)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		some, err := rulefile.Parse(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		rules = append(rules, some...)
	}
	return files, rules, errors.Join(errs...)
}

// allowedRules holds the rules of a site against the manifest of the deployment that runs.
func allowedRules(root string, r *stage.Record, site []rule.Rule) error {
	man, err := report.Manifest(root, r)
	if err != nil {
		return fmt.Errorf("what the base allows: %w", err)
	}
	_, err = rule.InForce(man.Rules, site, man.State.RulePaths)
	return err
}
