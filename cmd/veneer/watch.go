package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"veneer/stage/report"
	"veneer/stage/watch"
)

func newWatch() *cobra.Command {
	var asJSON bool
	var root string
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Look once how full the upper and the state are, and do what the policy says when a watermark is crossed",
		Long: `Compare how full the upper (memory) and the state (disk) are with the watermarks of the manifest: 80 and 95 percent where it names
none, of the bytes or of the files, whichever is scarcer. A watermark that is crossed is told once, up or down, in the journal
(notice, warning, crit), and to each program in /etc/veneer/watch.d, which is called with

  upper|data   good|warning|critical   PERCENT   MOUNT

Where the policy is read-only, the paths that rules keep become read-only at critical, and writable again when there is room; the
state itself stays writable, so that a reset can be asked for. veneer-watch.timer calls this each minute.`,
		Example: `  veneer watch
  journalctl -u veneer-watch -p warning`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := report.Read(root)
			if err != nil {
				return err
			}
			inJournal := os.Getenv("JOURNAL_STREAM") != ""
			w := watch.Watch{Root: root, Record: r.Record, Say: sayTo(cmd.ErrOrStderr(), inJournal)}
			state, err := w.Look(cmd.Context())
			switch {
			case asJSON:
				if jsonErr := indented(cmd.OutOrStdout(), state); err == nil {
					err = jsonErr
				}
			case !inJournal:
				for _, s := range state.Places {
					fmt.Fprintln(cmd.OutOrStdout(), s)
				}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what was seen as JSON")
	addRoot(cmd, &root)
	return cmd
}

// sayTo writes lines with the priority that the journal takes off them (sd-daemon(3)), or without.
func sayTo(w io.Writer, inJournal bool) func(watch.Priority, string) {
	return func(p watch.Priority, line string) {
		if inJournal {
			line = fmt.Sprintf("<%d>%s", p, line)
		}
		fmt.Fprintln(w, line)
	}
}
