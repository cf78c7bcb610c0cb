package main

import (
	"github.com/spf13/cobra"

	"veneer/stage/keeper"
)

// newKeep is the verb by which the init has work done in the state, see package keeper. It is for nobody else.
func newKeep() *cobra.Command {
	return &cobra.Command{
		Use:    "keep",
		Short:  "Work in the state for the init, which asks on the standard input",
		Hidden: true,
		Args:   args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return keeper.Serve(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}
