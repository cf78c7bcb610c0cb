package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"veneer/overlay/changes"
	"veneer/overlay/state"
	"veneer/stage/report"
)

// snapshotReport is one snapshot, for programs.
type snapshotReport struct {
	Name       string   `json:"name"`
	When       string   `json:"when"`
	Boot       string   `json:"boot"`
	Deployment string   `json:"deployment"`
	Good       bool     `json:"good"`
	Why        string   `json:"why"`
	Parts      []string `json:"parts"`
	Files      int64    `json:"files"`
	Copied     int64    `json:"copied"`
	Shared     int64    `json:"shared"`
}

func reportOf(s state.Snapshot) snapshotReport {
	return snapshotReport{s.Name, s.When, s.Boot, s.Deployment, s.Good, s.Why, s.Parts, s.Files, s.Copied, s.Shared}
}

// snapshotVerb is `veneer snapshot` with its flags.
type snapshotVerb struct {
	verb
	data, identity bool
	why            string
}

func newSnapshot() *cobra.Command {
	var v snapshotVerb
	cmd := &cobra.Command{
		Use:   "snapshot [NAME] | snapshot list | snapshot delete NAME | snapshot restore NAME [PATH]",
		Short: "Make, list, delete and return to generations of what was written",
		Long: `Snapshot copies every upper as it is now: what was written to /etc, to the root where it is kept, and to the paths of merge rules.
With --data it takes what persist rules keep, too, and with --identity what tells the machine from its sisters. Blocks are shared
where the file system can do that (btrfs, xfs); elsewhere what has not changed since the last snapshot is shared with it. Whether
there is room is known before anything is copied.

restore puts a copy of the snapshot in the place of what is there now, at the next boot; 'veneer undo' takes that back. With a PATH
it returns to the snapshot for that path and all below it, at once: what was changed or deleted since comes back, file by file, each as
a whole, and what is newer is removed. That is not undone: make a snapshot before.

list shows the snapshots, delete deletes one. A snapshot of a blessed boot is good: one that a machine may return to by itself.`,
		Example: `  veneer snapshot before-upgrade
  veneer snapshot list --json
  veneer snapshot restore before-upgrade
  veneer snapshot restore before-upgrade /etc/ssh --dry-run
  veneer snapshot delete before-upgrade`,
		Args: args(cobra.MaximumNArgs(3)),
		RunE: func(cmd *cobra.Command, args []string) error {
			word, name, path, err := snapshotWords(args)
			if err != nil {
				return usageError{fmt.Errorf("snapshot: %w", err)}
			}
			out, errs := cmd.OutOrStdout(), cmd.ErrOrStderr()
			return v.with(func(k *keptState) error {
				switch word {
				case "list":
					return v.list(k, out, errs)
				case "delete":
					return v.remove(k, out, name)
				case "restore":
					if path != "" {
						return v.restorePath(cmd.Context(), k, out, name, path)
					}
					return v.restore(cmd.Context(), k, out, name)
				}
				return v.create(cmd.Context(), k, out, name)
			})
		},
	}
	v.flags(cmd, "show what would be done, and do nothing")
	flags := cmd.Flags()
	flags.BoolVar(&v.data, "data", false, "take what persist rules keep, too")
	flags.BoolVar(&v.identity, "identity", false, "take the identity of the machine, too")
	flags.StringVar(&v.why, "why", "", "a `NOTE` for the list")
	return cmd
}

// snapshotWords tells what the words ask for: a name makes a snapshot, unless it is one of the other three.
func snapshotWords(args []string) (word, name, path string, err error) {
	if len(args) == 0 {
		return "", "", "", nil
	}
	most := 1
	switch word = args[0]; word {
	case "list":
	case "delete", "restore":
		if len(args) < 2 {
			return "", "", "", fmt.Errorf("%s: want the name of a snapshot", word)
		}
		if name, most = args[1], 2; word == "restore" && len(args) > 2 {
			path, most = args[2], 3
			if path == "" {
				return "", "", "", errors.New("restore: the path is empty")
			}
		}
	default:
		word, name = "", args[0]
	}
	if len(args) > most {
		return "", "", "", fmt.Errorf("unexpected %q", args[most])
	}
	if word != "list" {
		err = state.CheckSnapshotName(name)
	}
	return word, name, path, err
}

func (v *snapshotVerb) create(ctx context.Context, k *keptState, w io.Writer, name string) error {
	spec := state.SnapshotSpec{Name: name, Serial: k.record.Deployment.Serial, Boot: k.boot, Data: v.data, Identity: v.identity, Why: v.why, Now: k.now}
	if v.dryRun {
		parts, err := k.SnapshotParts(spec)
		if err != nil {
			return err
		}
		return v.print(w, parts, func(w io.Writer) {
			for _, p := range parts {
				fmt.Fprintf(w, "Would copy %s\n", printable(k.shown(p)))
			}
		})
	}
	s, err := k.CreateSnapshot(ctx, spec)
	if err != nil {
		return err
	}
	return v.print(w, reportOf(s), func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s, %s copied, %s shared\n", s.Name, report.Count(s.Files, "entry", "entries"), report.Size(s.Copied), report.Size(s.Shared))
	})
}

func (v *snapshotVerb) list(k *keptState, w, errs io.Writer) error {
	all, problems, err := k.Snapshots()
	if err != nil {
		return err
	}
	warn(errs, problems)
	list := []snapshotReport{}
	for _, s := range all {
		list = append(list, reportOf(s))
	}
	return v.print(w, list, func(w io.Writer) {
		if len(list) == 0 {
			fmt.Fprintln(w, "There are no snapshots.")
			return
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, s := range list {
			good := ""
			if s.Good {
				good = "good"
			}
			fmt.Fprintf(t, "%s\t%s\tdeployment %s\t%s\t%s\t%s\n", s.Name, toTheSecond(s.When), printable(s.Deployment), report.Size(s.Copied+s.Shared), good, printable(s.Why))
		}
		t.Flush()
	})
}

// toTheSecond is a time for people; programs get all of it.
func toTheSecond(when string) string {
	if t, err := time.Parse(time.RFC3339Nano, when); err == nil {
		return t.Format(time.RFC3339)
	}
	return printable(when)
}

// remove deletes a snapshot that no request needs.
func (v *snapshotVerb) remove(k *keptState, w io.Writer, name string) error {
	filed, _, err := k.Requests()
	if err != nil {
		return err
	}
	filed = slices.DeleteFunc(filed, func(r state.Request) bool { return r.Kind != state.Restore || r.Snapshot != name })
	if len(filed) > 0 {
		return fmt.Errorf("snapshot %s is not deleted: the next boot returns to it\n%s", name, takeBack(filed))
	}
	if v.dryRun {
		_, err := k.Snapshot(name)
		if err == nil {
			fmt.Fprintf(w, "Would delete %s\n", name)
		}
		return err
	}
	if err := k.DeleteSnapshot(name); err != nil {
		return err
	}
	return v.print(w, map[string]string{"deleted": name}, func(w io.Writer) {
		fmt.Fprintf(w, "Deleted %s; 'veneer cleanup' gives its room back.\n", name)
	})
}

func (v *snapshotVerb) restore(ctx context.Context, k *keptState, w io.Writer, name string) error {
	s, err := k.Snapshot(name)
	if err != nil {
		return err
	}
	if v.dryRun {
		return v.print(w, reportOf(s), func(w io.Writer) {
			for _, p := range s.Parts {
				fmt.Fprintf(w, "The next boot would put %s of %s in the place of what is there.\n", printable(k.shown(p)), name)
			}
		})
	}
	r, err := k.File(state.Request{Kind: state.Restore, From: "command", Snapshot: name}, k.now)
	if err != nil {
		return err
	}
	// The copy is made here, so that the boot has only renames to do.
	if err := k.StageRestore(ctx, r); err != nil {
		return errors.Join(err, k.Cancel(r.ID))
	}
	return v.print(w, map[string]string{"id": r.ID, "snapshot": name}, func(w io.Writer) {
		fmt.Fprintf(w, "Filed as %s: the next boot returns to %s. Until then 'veneer reset --cancel %s' takes it back.\nAfter it 'veneer undo' does, until that boot is blessed.\n", r.ID, name, r.ID)
	})
}

// restoredReport is what was done for one path, for programs.
type restoredReport struct {
	Snapshot string             `json:"snapshot"`
	Path     string             `json:"path"`
	DryRun   bool               `json:"dry-run"`
	Changes  []changes.Restored `json:"changes"`
}

// restorePath returns to a snapshot for one path, at once.
func (v *snapshotVerb) restorePath(ctx context.Context, k *keptState, w io.Writer, name, path string) error {
	if _, err := k.Snapshot(name); err != nil {
		return err
	}
	r, m, err := machineOf(v.root)
	if err != nil {
		return err
	}
	p, err := m.Reach(absolute(v.root, path))
	if err != nil {
		return err
	}
	if p == "/" {
		return usageError{fmt.Errorf("snapshot: only the next boot can return to the whole: veneer snapshot restore %s", name)}
	}
	if err := r.Against(m, v.root, name); err != nil {
		return err
	}
	done, failed := m.Restore(ctx, v.root, p, v.dryRun)
	if errors.Is(failed, changes.ErrNotAtOnce) {
		return fmt.Errorf("%w; 'veneer snapshot restore %s' returns to the whole at the next boot, as far as the snapshot has it", failed, name)
	}
	for i := range done {
		done[i].Path = printable(done[i].Path)
	}
	if failed != nil && len(done) == 0 {
		return failed
	}
	return errors.Join(v.print(w, restoredReport{name, printable(p), v.dryRun, done}, func(w io.Writer) {
		if len(done) == 0 {
			fmt.Fprintf(w, "%s is what it is in %s.\n", printable(p), name)
		}
		would := ""
		if v.dryRun {
			would = "would be "
		}
		for _, c := range done {
			fmt.Fprintf(w, "%s: %s%s\n", c.Path, would, c.What)
		}
	}), failed)
}
