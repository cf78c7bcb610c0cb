package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"veneer/overlay/state"
)

// undoReport is what an undo says of itself.
type undoReport struct {
	ID   string `json:"id,omitempty"` // of the request, unless it was a dry run
	Of   string `json:"of"`
	What string `json:"what"`
}

func newUndo() *cobra.Command {
	var v verb
	cmd := &cobra.Command{
		Use:   "undo [NUMBER | ID]",
		Short: "Bring back, at the next boot, what an operation moved aside",
		Long: `Undo takes back the newest operation that can be undone, or the one with this number or ID in 'veneer journal': a reset, a return
to a snapshot, an undo. The init swaps at the next boot: what is there by then goes aside, so that an undo can be undone, and what
the operation took comes back.

What no boot has carried out yet is taken back with 'veneer reset --cancel ID' instead. What a bless has made final cannot be undone,
nor can a secure reset.`,
		Example: `  veneer undo
  veneer undo 12 --dry-run`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			word := ""
			if len(args) == 1 {
				word = args[0]
			}
			return v.with(func(k *keptState) error {
				filed, _, err := k.Requests()
				if err != nil {
					return err
				}
				id, err := k.Find(word)
				if word == "" && errors.Is(err, state.ErrNothingToUndo) && len(filed) > 0 {
					return fmt.Errorf("%w: no boot has carried out yet what is on file\n%s", err, takeBack(filed))
				}
				if err != nil {
					return err
				}
				if i := slices.IndexFunc(filed, func(r state.Request) bool { return r.Kind == state.Undo && (r.Of == id || r.Of == "") }); i >= 0 {
					return fmt.Errorf("the next boot undoes %s already\n%s", id, takeBack(filed[i:i+1]))
				}
				rep := undoReport{Of: id}
				operations, problems, err := k.Operations()
				if err != nil {
					return err
				}
				warn(cmd.ErrOrStderr(), problems)
				for _, o := range operations {
					if o.ID == id {
						rep.What = o.What
					}
				}
				if !v.dryRun {
					r, err := k.File(state.Request{Kind: state.Undo, From: "command", Of: id}, k.now)
					if err != nil {
						return err
					}
					rep.ID = r.ID
				}
				return v.print(cmd.OutOrStdout(), rep, func(w io.Writer) {
					if rep.ID == "" {
						fmt.Fprintf(w, "The next boot would undo %s: %s\n", rep.Of, printable(rep.What))
						return
					}
					fmt.Fprintf(w, "Filed as %s: the next boot undoes %s (%s).\n", rep.ID, rep.Of, printable(rep.What))
					if len(filed) > 0 {
						fmt.Fprintf(w, "Before that it carries out what is on file:\n%s\n", takeBack(filed))
					}
				})
			})
		},
	}
	v.flags(cmd, "show what would be undone, and file nothing")
	return cmd
}

// takeBack lists requests that no boot has carried out, each with the words that take it back.
func takeBack(filed []state.Request) string {
	var lines []string
	for _, r := range filed {
		lines = append(lines, fmt.Sprintf("  %s; to take it back: veneer reset --cancel %s", printable(r.What()), r.ID))
	}
	return strings.Join(lines, "\n")
}
