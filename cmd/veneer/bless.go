package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"veneer/images/esp"
	"veneer/overlay/state"
)

// blessReport is what a bless says of itself.
type blessReport struct {
	Boot       string   `json:"boot"`
	Deployment string   `json:"deployment"`
	Final      []string `json:"final"` // operations that can no longer be undone
	Snapshot   string   `json:"snapshot,omitempty"`
	Entry      string   `json:"entry,omitempty"` // of the boot loader, which counts it no longer
}

func newBless() *cobra.Command {
	var v verb
	cmd := &cobra.Command{
		Use:   "bless",
		Short: "Mark this boot as good",
		Long: `Bless says that this boot is good: a snapshot of it is one to return to, the count of boots that failed begins anew, and what
earlier operations moved aside can no longer be undone; 'veneer cleanup' deletes it. What was quarantined stays.

Where boots that fail lead back to a good snapshot (state.tries), one is made of this boot, and the last two are kept.

Where the boot loader counts the tries of its entry (boot.tries in veneer.toml, systemd-boot), it does so no longer: the entry on the EFI
system partition gets its name without a count.

On a system with systemd veneer-bless.service does it once boot-complete.target is reached. Mask that unit to bless by hand, and
order what decides whether a boot is good before that target.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			entry, counted := esp.Running(filepath.Join(v.root, "sys"))
			if counted != nil && !errors.Is(counted, esp.ErrNotCounted) {
				fmt.Fprintf(cmd.ErrOrStderr(), "veneer: whether the boot loader counts this boot is not known: %v\n", counted)
			}
			rep := blessReport{Final: []string{}}
			err := v.with(func(k *keptState) error { return v.blessState(cmd, k, &rep) })
			if errors.Is(err, errNothingKept) && counted == nil {
				err = nil // but what the loader counts
			}
			if err == nil && counted == nil {
				rep.Entry = entry.Good()
				if !v.dryRun {
					err = entry.Bless()
				}
				if err != nil {
					err = fmt.Errorf("the boot loader still counts the tries of %s: %w", entry.Path, err)
				}
			}
			if err != nil {
				return err
			}
			return v.print(cmd.OutOrStdout(), rep, func(w io.Writer) {
				for _, f := range rep.Final {
					fmt.Fprintf(w, "No longer to be undone: %s\n", printable(f))
				}
				if rep.Entry != "" {
					fmt.Fprintf(w, "No longer counted by the boot loader: %s\n", printable(rep.Entry))
				}
				switch {
				case v.dryRun:
				case rep.Deployment != "":
					fmt.Fprintf(w, "This boot of deployment %s is good.\n", printable(rep.Deployment))
				default:
					fmt.Fprintln(w, "This boot is good.")
				}
			})
		},
	}
	v.flags(cmd, "show what could no longer be undone, and bless nothing")
	return cmd
}

// blessState marks the boot as good in the state.
func (v *verb) blessState(cmd *cobra.Command, k *keptState, rep *blessReport) (err error) {
	rep.Boot, rep.Deployment = k.boot, k.record.Deployment.Serial
	var final []state.Operation
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
	for _, o := range final {
		rep.Final = append(rep.Final, o.ID+" "+o.What)
	}
	return nil
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
