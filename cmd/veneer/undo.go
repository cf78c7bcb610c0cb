package main

import (
	"fmt"
	"io"

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

What a bless has made final cannot be undone, nor can a secure reset.`,
		Example: `  veneer undo
  veneer undo 12 --dry-run`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			word := ""
			if len(args) == 1 {
				word = args[0]
			}
			return v.with(func(k *keptState) error {
				id, err := k.Find(word)
				if err != nil {
					return err
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
				})
			})
		},
	}
	v.flags(cmd, "show what would be undone, and file nothing")
	return cmd
}
