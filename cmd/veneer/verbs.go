package main

import "github.com/spf13/cobra"

// boardCommands are the verbs of the running machine, which the build host has too.
func boardCommands() []*cobra.Command {
	return []*cobra.Command{
		newPlan(),
		newParameters(), newDialects(),
		newStatus(),
		newDiff(),
		newWhy(),
		newUsage(),
		newEtc(),
		newRules(),
		newReset(),
		newUndo(),
		newBless(),
		newSnapshot(),
		newCleanup(),
		newJournal(),
		newWatch(),
		newIdentity(),
		newKeep(),
	}
}
