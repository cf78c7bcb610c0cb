package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"veneer/overlay/state"
	"veneer/stage"
	"veneer/stage/report"
)

// errNothingKept means that this machine has no state that outlives a boot.
var errNothingKept = errors.New("nothing is kept on this machine")

// keptState is the state of the running machine, as its record has it.
type keptState struct {
	*state.Dir
	record *stage.Record
	places []state.Place
	boot   string
	now    time.Time
}

// openKept finds the state of the system whose root is at root.
func openKept(root string) (*keptState, error) {
	r, err := report.Read(root)
	if err != nil {
		return nil, err
	}
	switch r.State.Kind {
	case stage.StatePersistent:
	case stage.StateEphemeral:
		return nil, fmt.Errorf("%w, although it was asked for: %s", errNothingKept, printable(r.State.Why))
	default:
		return nil, fmt.Errorf("%w: each boot is the first; see veneer.state= in 'veneer help parameters'", errNothingKept)
	}
	dir, err := state.Open(filepath.Join(root, r.State.Mount))
	if err != nil {
		return nil, err
	}
	boot, err := os.ReadFile(filepath.Join(root, "/proc/sys/kernel/random/boot_id"))
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return &keptState{dir, r.Record, placesOf(r.Record), strings.TrimSpace(string(boot)), time.Now()}, nil
}

// placesOf are the places that the rules of the record keep.
func placesOf(r *stage.Record) []state.Place {
	var places []state.Place
	within := func(mounted string) (string, bool) {
		rel, ok := strings.CutPrefix(mounted, r.State.Mount+"/")
		return rel, ok && rel != ""
	}
	if rel, ok := within(r.Upper.Mount); ok && r.Upper.Kind == "persistent" {
		places = append(places, state.Place{Path: "/", Root: rel, Files: path.Join(rel, state.FilesDir)})
	}
	for _, rule := range r.Rules {
		rel, ok := within(rule.Source)
		if !ok {
			continue
		}
		place := state.Place{Path: rule.Path, Root: rel, Files: rel}
		if rule.Form == "overlay" {
			place.Files = path.Join(rel, state.FilesDir)
		}
		places = append(places, place)
	}
	return places
}

// shown is an entry of the state as the merged root has it, where it has.
func (k *keptState) shown(rel string) string {
	for _, p := range k.places {
		if rel == p.Root || rel == p.Files {
			return p.Path
		}
		if below, ok := strings.CutPrefix(rel, p.Files+"/"); ok {
			return path.Join(p.Path, below)
		}
	}
	if kind, ok := kinds[rel]; ok {
		return kind
	}
	return "state:" + rel
}

// kinds are the directories of a state, for people.
var kinds = map[string]string{"etc": "/etc of each deployment", "upper": "the root", "merge": "every other merged path", "data": "what persist rules keep",
	"identity": "identity", "snapshots": "snapshots"}

// verb is what every verb that works on the state has in common.
type verb struct {
	root         string
	json, dryRun bool
}

func (v *verb) flags(cmd *cobra.Command, dryRun string) {
	flags := cmd.Flags()
	flags.BoolVar(&v.json, "json", false, "print JSON")
	if dryRun != "" {
		flags.BoolVar(&v.dryRun, "dry-run", false, dryRun)
	}
	flags.StringVar(&v.root, "root", "/", "look at the system in this directory")
	if err := flags.MarkHidden("root"); err != nil {
		panic(err) // the flag was defined above
	}
}

// with opens the state for as long as do runs.
func (v *verb) with(do func(*keptState) error) (err error) {
	k, err := openKept(v.root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	return do(k)
}

// print shows what a verb has to say, as JSON or in words.
func (v *verb) print(w io.Writer, value any, words func(io.Writer)) error {
	if v.json {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(value)
	}
	words(w)
	return nil
}

// warn shows what was found in the state and not understood.
func warn(w io.Writer, problems []state.Problem) {
	for _, p := range problems {
		fmt.Fprintf(w, "veneer: %s\n", p)
	}
}

// printable is text from a state as a terminal may show it.
func printable(s string) string { return report.Plain(s) }

func amount(s state.Size) string {
	return report.Size(s.Bytes) + " in " + report.Count(s.Files, "entry", "entries")
}
