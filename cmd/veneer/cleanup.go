package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"veneer/overlay/state"
	"veneer/stage/report"
)

// cleanupReport is what a cleanup says of itself.
type cleanupReport struct {
	Deleted int64 `json:"deleted"` // entries; of a dry run those that would be
	Bytes   int64 `json:"bytes"`   // only of a dry run
	Left    bool  `json:"left"`
}

func newCleanup() *cobra.Command {
	var v verb
	var limit int
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Delete what resets and deleted snapshots have left",
		Long: `Cleanup deletes what is out of use: what resets moved aside before a bless, snapshots that were deleted, copies that were never
finished. It never touches what can still be undone.

On a system with systemd veneer-cleanup.service does it behind each bless, with the lowest priority of CPU and disk.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return usageError{fmt.Errorf("cleanup: --limit %d is negative", limit)}
			}
			return v.with(func(k *keptState) error {
				// What is being deleted has no size worth asking for: it is measured only for a dry run.
				if v.dryRun {
					size, err := k.MeasureTrash()
					if err != nil {
						return err
					}
					rep := cleanupReport{Deleted: size.Files, Bytes: size.Bytes, Left: size.Files > 0}
					return v.print(cmd.OutOrStdout(), rep, func(w io.Writer) { fmt.Fprintf(w, "To be deleted: %s\n", amount(size)) })
				}
				var rep cleanupReport
				var err error
				var deleted int
				rep.Left, deleted, err = k.EmptyTrash(cmd.Context(), limit, func(n int) {
					if isTerminal(cmd.ErrOrStderr()) {
						fmt.Fprintf(cmd.ErrOrStderr(), "\r%d deleted", n)
					}
				})
				rep.Deleted = int64(deleted)
				if isTerminal(cmd.ErrOrStderr()) && deleted >= state.ProgressEach {
					fmt.Fprintln(cmd.ErrOrStderr())
				}
				if perr := v.print(cmd.OutOrStdout(), rep, func(w io.Writer) {
					fmt.Fprintf(w, "%s deleted.\n", report.Count(rep.Deleted, "entry", "entries"))
				}); err == nil {
					err = perr
				}
				return err
			})
		},
	}
	v.flags(cmd, "show how much would be deleted")
	cmd.Flags().IntVar(&limit, "limit", 0, "delete at most so many `ENTRIES`; 0 is all")
	return cmd
}
