package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"veneer/overlay/changes"
	"veneer/stage/report"
)

func newUsage() *cobra.Command {
	var asJSON bool
	var top int
	var root string
	cmd := &cobra.Command{
		Use:   "du [PATH]",
		Short: "Show what fills the uppers and the data, the biggest first",
		Long: `Show how much of its room each upper and each rule's data takes (allocated blocks, hard links counted once), and the biggest
directories and files in it; with PATH only what was written there. What the state keeps out of use (snapshots, what a reset moved
aside, what is to be deleted) is listed too. Nothing that only lies in an image counts: it takes no room.`,
		Example: `  veneer du
  veneer du -n 20 /var
  veneer du --json | jq '.[].bytes'`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if top < 0 || top > maxTop {
				return usageError{fmt.Errorf("du: -n %d: want 0 to %d", top, maxTop)}
			}
			if len(args) == 1 && args[0] == "" {
				return errEmptyPath
			}
			r, m, err := machineOf(root)
			if err != nil {
				return err
			}
			places := append(m.Places("/"), r.OutOfUse(root)...)
			if len(args) == 1 {
				p, err := m.Reach(absolute(root, args[0]))
				if err != nil {
					return err
				}
				places = m.Places(p)
			}
			all := []changes.Usage{}
			for _, p := range places {
				u, err := changes.Use(cmd.Context(), p, top)
				if err != nil {
					return err
				}
				all = append(all, u)
			}
			if asJSON {
				return indented(cmd.OutOrStdout(), all)
			}
			return report.Usage(cmd.OutOrStdout(), all)
		},
	}
	cmd.Flags().IntVarP(&top, "number", "n", 10, "how many directories and files to list of each place")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list, sizes in bytes")
	addRoot(cmd, &root)
	return cmd
}

// maxTop bounds what is kept in memory.
const maxTop = 100000
