package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"veneer/overlay/state"
	"veneer/stage"
	"veneer/stage/report"
)

// blessReport is what a bless says of itself.
type blessReport struct {
	Boot       string   `json:"boot"`
	Deployment string   `json:"deployment"`
	Final      []string `json:"final"` // operations that can no longer be undone
	Snapshot   string   `json:"snapshot,omitempty"`

	Epoch *epochReport `json:"epoch,omitempty"` // where a set names one, or the TPM keeps it
}

func newBless() *cobra.Command {
	var v verb
	cmd := &cobra.Command{
		Use:   "bless",
		Short: "Mark this boot as good",
		Long: `Bless says that this boot is good: a snapshot of it is one to return to, the count of boots that failed begins anew, and what
earlier operations moved aside can no longer be undone; 'veneer cleanup' deletes it. What was quarantined stays.

The epoch of the set is the least that boots on this machine from now on. The store keeps it, and the TPM where the initramfs asks for
one (docs/trust.md); a set whose signature was not checked raises nothing.

Where boots that fail lead back to a good snapshot (state.tries), one is made of this boot, and the last two are kept.

On a system with systemd veneer-bless.service does it once boot-complete.target is reached. Mask that unit to bless by hand, and
order what decides whether a boot is good before that target.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := report.Read(v.root)
			if err != nil {
				return err
			}
			if e, _, _ := epochPlaces(r.Record); r.State.Kind != stage.StatePersistent && (e.Epoch > 0 || r.Trust.TPMFound) {
				// Nothing is kept, and so nothing to be made final: the epoch alone is blessed.
				e = raiseEpoch(v.root, r.Record, v.dryRun)
				rep := blessReport{Deployment: r.Record.Deployment.Serial, Final: []string{}, Epoch: &e}
				return v.print(cmd.OutOrStdout(), rep, func(w io.Writer) { fmt.Fprint(w, e.text()) })
			}
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
				if !v.dryRun && k.record.Boots.Tries > 0 {
					if rep.Snapshot, err = k.snapshotOfGood(cmd.Context()); err != nil {
						fmt.Fprintf(cmd.ErrOrStderr(), "veneer: no snapshot of this good boot was made, so that there is none to return to: %v\n", err)
					}
				}
				if e := raiseEpoch(v.root, k.record, v.dryRun); e.Raised || e.Refuse != "" {
					rep.Epoch = &e
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
					if rep.Epoch != nil {
						fmt.Fprint(w, rep.Epoch.text())
					}
				})
			})
		},
	}
	v.flags(cmd, "show what could no longer be undone, and bless nothing")
	return cmd
}

// whyGood marks the snapshots that a bless makes where failed boots lead back to one (state.tries), and goodKept is how many of
// them are kept: the newest, and the one before in case that one turns out to be bad.
const (
	whyGood  = "blessed"
	goodKept = 2
)

// snapshotOfGood makes a snapshot of the uppers of this boot, once, and lets go of those of earlier good boots.
func (k *keptState) snapshotOfGood(ctx context.Context) (string, error) {
	all, _, err := k.Snapshots()
	if err != nil {
		return "", err
	}
	for _, s := range all {
		if s.Why == whyGood && s.Boot == k.boot {
			return s.Name, nil
		}
	}
	made, err := k.CreateSnapshot(ctx, state.SnapshotSpec{Serial: k.record.Deployment.Serial, Boot: k.boot, Why: whyGood, Now: k.now})
	if err != nil {
		return "", err
	}
	kept := 1
	for _, s := range slices.Backward(all) {
		if s.Why != whyGood {
			continue
		}
		if kept++; kept > goodKept {
			if err := k.DeleteSnapshot(s.Name); err != nil {
				return made.Name, err
			}
		}
	}
	return made.Name, nil
}
