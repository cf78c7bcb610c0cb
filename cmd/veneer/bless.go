package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"veneer/overlay/state"
)

// blessReport is what a bless says of itself.
type blessReport struct {
	Boot       string   `json:"boot"`
	Deployment string   `json:"deployment"`
	Final      []string `json:"final"` // operations that can no longer be undone
}

func newBless() *cobra.Command {
	var v verb
	cmd := &cobra.Command{
		Use:   "bless",
		Short: "Mark this boot as good",
		Long: `Bless says that this boot is good: a snapshot of it is one to return to, the count of boots that failed begins anew, and what
earlier operations moved aside can no longer be undone; 'veneer cleanup' deletes it. What was quarantined stays.

On a system with systemd veneer-bless.service does it once boot-complete.target is reached. Mask that unit to bless by hand, and
order what decides whether a boot is good before that target.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return v.with(func(k *keptState) error {
				rep := blessReport{Boot: k.boot, Deployment: k.record.Deployment.Serial, Final: []string{}}
				var final []state.Operation
				var err error
				if v.dryRun {
					final, err = k.PlanBless()
				} else {
					final, err = k.Bless(rep.Boot, rep.Deployment, k.now)
				}
				if err != nil {
					return err
				}
				for _, o := range final {
					rep.Final = append(rep.Final, o.ID+" "+o.What)
				}
				return v.print(cmd.OutOrStdout(), rep, func(w io.Writer) {
					for _, f := range rep.Final {
						fmt.Fprintf(w, "No longer to be undone: %s\n", printable(f))
					}
					if !v.dryRun {
						fmt.Fprintf(w, "This boot of deployment %s is good.\n", printable(rep.Deployment))
					}
				})
			})
		},
	}
	v.flags(cmd, "show what could no longer be undone, and bless nothing")
	return cmd
}
