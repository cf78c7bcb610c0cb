package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"veneer/overlay/state"
)

// journalEntry is one operation, done or on file.
type journalEntry struct {
	Number   int    `json:"number,omitempty"` // 0: it is on file
	ID       string `json:"id"`
	Kind     string `json:"kind"`
	From     string `json:"from"`
	What     string `json:"what"`
	When     string `json:"when,omitempty"`
	Boot     string `json:"boot,omitempty"`
	Outcome  string `json:"outcome"`
	Why      string `json:"why,omitempty"`
	Of       string `json:"of,omitempty"`
	UndoneBy string `json:"undone-by,omitempty"`
	Undoable bool   `json:"undoable"`
}

func newJournal() *cobra.Command {
	var v verb
	cmd := &cobra.Command{
		Use:   "journal",
		Short: "List what was done to the state of this machine, and what is on file",
		Long: `Journal lists the operations on what this machine keeps: resets, undos, returns to snapshots, quarantines, oldest first, each with
what became of it and whether it can be undone, and behind them the requests for the next boot.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return v.with(func(k *keptState) error {
				list, problems, err := k.journal()
				if err != nil {
					return err
				}
				warn(cmd.ErrOrStderr(), problems)
				return v.print(cmd.OutOrStdout(), list, func(w io.Writer) { printJournal(w, list) })
			})
		},
	}
	v.flags(cmd, "")
	return cmd
}

// journal joins what was done with what can be undone and with what is on file.
func (k *keptState) journal() ([]journalEntry, []state.Problem, error) {
	entries, problems, err := k.Journal()
	if err != nil {
		return nil, nil, err
	}
	operations, more, err := k.Operations()
	if err != nil {
		return nil, nil, err
	}
	requests, still, err := k.Requests()
	if err != nil {
		return nil, nil, err
	}
	undone, undoable := map[string]string{}, map[string]bool{}
	for _, e := range entries {
		if e.Of != "" && e.Outcome == state.Done {
			undone[e.Of] = e.ID
		}
	}
	for _, o := range operations {
		undoable[o.ID] = o.Undoable
	}
	list := []journalEntry{}
	for _, e := range entries {
		list = append(list, journalEntry{e.Number, e.ID, string(e.Kind), e.From, whatOf(e), e.When, e.Boot, e.Outcome, e.Why, e.Of, undone[e.ID], undoable[e.ID]})
	}
	for _, r := range requests {
		list = append(list, journalEntry{ID: r.ID, Kind: string(r.Kind), From: r.From, What: r.What(), Outcome: "on file"})
	}
	return list, append(append(problems, more...), still...), nil
}

// whatOf is what an entry was about: one that was refused before anybody looked what it comes to has no words of its own.
func whatOf(e state.Entry) string {
	switch {
	case e.What != "":
		return e.What
	case e.Of != "":
		return string(e.Kind) + " " + e.Of
	}
	return string(e.Kind)
}

func printJournal(w io.Writer, list []journalEntry) {
	if len(list) == 0 {
		fmt.Fprintln(w, "No operation was carried out, and nothing is on file. Snapshots are listed by 'veneer snapshot list'.")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, e := range list {
		number, undo := "-", ""
		if e.Number > 0 {
			number = fmt.Sprint(e.Number)
		}
		switch {
		case e.Undoable:
			undo = "; can be undone"
		case e.UndoneBy != "":
			undo = "; was undone"
		}
		why := ""
		if e.Why != "" {
			why = ": " + printable(e.Why)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s%s%s\n", number, e.ID, printable(e.What), printable(e.Outcome), why, undo)
	}
	t.Flush()
}
