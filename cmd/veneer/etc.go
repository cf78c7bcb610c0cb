package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"veneer/overlay/entry"
	"veneer/overlay/merge"
	"veneer/overlay/merge/live"
)

// etcFlags are those of all verbs below `veneer etc`.
type etcFlags struct {
	root, dir    string
	json, dryRun bool
}

func newEtc() *cobra.Command {
	var f etcFlags
	cmd := &cobra.Command{
		Use:   "etc",
		Short: "Show what is local in /etc, and resolve the conflicts that a change of base left",
		Long: `Show what is local in /etc, and resolve the conflicts that a change of base left.

When the base changes, the init merges /etc: what was not touched comes from the new base, what was is kept. Where both sides
changed a file the local one stays in place and the base's lies beside it as NAME.new.

  veneer etc diff [PATH]      lists what is local, and the open conflicts
  veneer etc accept PATH...   takes the base's side: NAME.new replaces NAME
  veneer etc reset PATH...    makes PATH, and all below it, what it is in the base

To keep the local side remove NAME.new. A PATH is absolute, or relative to /etc. All three take --json; accept and reset
take --dry-run.`,
		Example: `  veneer etc diff
  veneer etc diff --json ssh | jq '.items[].path'
  veneer etc accept ssh/sshd_config
  veneer etc reset --dry-run /etc/ssh`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	all := cmd.PersistentFlags()
	all.BoolVar(&f.json, "json", false, "print JSON")
	all.StringVar(&f.dir, "dir", "/etc", "look at another merged `DIRECTORY`")
	all.StringVar(&f.root, "root", "/", "look at the system in this directory")
	if err := all.MarkHidden("root"); err != nil {
		panic(err) // the flag was defined above
	}
	accept := &cobra.Command{
		Use: "accept PATH...", Short: "Take the base's side of a conflict: NAME.new replaces NAME", Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.resolve(cmd.OutOrStdout(), args, (merge.Resolver).Accept)
		},
	}
	reset := &cobra.Command{
		Use: "reset PATH...", Short: "Make a path, and all below it, what it is in the base", Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.resolve(cmd.OutOrStdout(), args, (merge.Resolver).Reset)
		},
	}
	for _, c := range []*cobra.Command{accept, reset} {
		c.Flags().BoolVar(&f.dryRun, "dry-run", false, "only tell what would be done")
	}
	diff := &cobra.Command{
		Use: "diff [PATH]", Short: "List what is local, and the open conflicts", Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := live.Find(f.root, f.dir)
			if err != nil {
				return err
			}
			path := "."
			if len(args) == 1 {
				if path, err = p.Relative(args[0]); err != nil {
					return usageError{err}
				}
			}
			r, err := live.Diff(cmd.Context(), p, path)
			if err != nil {
				return err
			}
			return f.printDiff(cmd.OutOrStdout(), r)
		},
	}
	cmd.AddCommand(diff, accept, reset)
	return cmd
}

// resolve does one thing to each path, and reports all that failed behind what was done.
func (f etcFlags) resolve(w io.Writer, paths []string, do func(merge.Resolver, string) ([]merge.Change, error)) error {
	p, err := live.Find(f.root, f.dir)
	if err != nil {
		return err
	}
	p.DryRun = f.dryRun
	rel := make([]string, len(paths))
	var wrong []error
	for i, name := range paths {
		rel[i], err = p.Relative(name)
		wrong = append(wrong, err)
	}
	if err := errors.Join(wrong...); err != nil {
		return usageError{err}
	}
	done := []merge.Change{}
	var failed []error
	for _, path := range rel {
		changes, err := do(p.Resolver, path)
		done, failed = append(done, changes...), append(failed, err)
	}
	err = errors.Join(failed...)
	if f.json {
		for i := range done {
			done[i].Path = entry.Quote(done[i].Path)
		}
		return errors.Join(printJSON(w, map[string]any{"dry-run": f.dryRun, "changes": done}), err)
	}
	if len(done) == 0 && err == nil {
		fmt.Fprintln(w, "nothing local there")
	}
	for _, c := range done {
		if _, err := fmt.Fprintf(w, "%s: %s\n", entry.Plain(c.Path), c.What); err != nil {
			return err
		}
	}
	return err
}

func (f etcFlags) printDiff(w io.Writer, r *merge.Report) error {
	if f.json {
		_, err := w.Write(r.Encode())
		return err
	}
	if len(r.Items) == 0 {
		_, err := fmt.Fprintln(w, "nothing is local: all of it is as the base has it")
		return err
	}
	var err error
	for _, open := range []bool{true, false} {
		for _, i := range r.Items {
			if i.Verdict.Open() != open {
				continue
			}
			note := i.Note
			if i.Side != "" {
				note = "the base's side is " + i.Side
			}
			if i.Verdict == merge.Pruned {
				note = "equal to the base"
			}
			if note != "" { // behind the path, whatever its length: one long name must not widen every line
				note = "  " + entry.Plain(note)
			}
			if err == nil {
				_, err = fmt.Fprintf(w, "%-13s  %s%s\n", i.Verdict, entry.Plain(i.Path), note)
			}
		}
	}
	if err != nil {
		return err
	}
	if r.Omitted > 0 {
		fmt.Fprintf(w, "and %d more\n", r.Omitted)
	}
	return nil
}

func printJSON(w io.Writer, value any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(value)
}
