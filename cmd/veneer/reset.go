package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"veneer/overlay/state"
)

// resetStep is one line of what a reset would do.
type resetStep struct {
	Path   string   `json:"path"`
	Place  string   `json:"place"` // in the state
	Except []string `json:"except,omitempty"`
	Bytes  int64    `json:"bytes"`
	Files  int64    `json:"files"`
}

// resetReport is what a reset says of itself.
type resetReport struct {
	ID     string      `json:"id,omitempty"` // of the request, unless it was a dry run
	Scope  string      `json:"scope"`
	Secure bool        `json:"secure"`
	Key    bool        `json:"key"` // the key of the state is destroyed
	Wiped  []resetStep `json:"wiped"`
	Kept   []resetStep `json:"kept"`
	Notes  []string    `json:"notes"`
}

func newReset() *cobra.Command {
	var v verb
	var scope, cancel string
	var keep keepFlag
	var secure bool
	cmd := &cobra.Command{
		Use:   "reset [--scope all|etc|data|upper|PATH] [--keep WHAT]...",
		Short: "Wipe what was written, at the next boot",
		Long: `Reset files a request that the init carries out at the next boot, before anything is mounted over it: what was written is moved
aside, whatever its size, and the base shows again. Until the boot after it is blessed, 'veneer undo' brings everything back.

Scopes: all is everything that was ever written, snapshots and identity too; etc is what was written to /etc; data is what persist
rules keep; upper is every upper, that of /etc too; a path is whatever supplies that path, and all that lies below it.
To keep: identity (machine-id, ssh host keys, host name, random seed), network (connections, addresses, host names), snapshots, or
a path, each in a --keep of its own; those three also together, with commas. A path is taken as it is, commas and all.

With --secure what was moved aside is deleted at once, an encrypted state loses its key, and nothing can be brought back. A key goes
for all of the state or not at all (no --keep, no other --scope), and only where the boot can make the state anew (state.create).`,
		Example: `  veneer reset --dry-run
  veneer reset --keep identity,network
  veneer reset --scope etc --keep /etc/wireguard --keep identity
  veneer reset --scope /var/lib/app
  veneer reset --cancel 20260301T120000.000000Z`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cancel != "" {
				return v.with(func(k *keptState) error { return k.Cancel(cancel) })
			}
			r := state.Request{Kind: state.Reset, From: "command", Scope: scope, Keep: keep, Secure: secure}
			if err := errors.Join(keep.check(v.root), r.Check()); err != nil {
				return usageError{fmt.Errorf("reset: %w", err)}
			}
			return v.with(func(k *keptState) error { return k.reset(cmd.OutOrStdout(), &v, r) })
		},
	}
	v.flags(cmd, "show what would be wiped and kept, and file nothing")
	flags := cmd.Flags()
	flags.StringVar(&scope, "scope", state.ScopeAll, "`WHAT` to wipe: all, etc, data, upper or a path")
	flags.Var(&keep, "keep", "`WHAT` to keep: a path, or identity, network, snapshots, separated by commas (repeatable)")
	flags.BoolVar(&secure, "secure", false, "delete at once, and destroy the key of an encrypted state: no undo")
	flags.StringVar(&cancel, "cancel", "", "take back the request with this `ID`, as long as no boot has carried it out")
	return cmd
}

// keepFlag is what was given with --keep, each time once. A path is one word, whatever it holds: one that is cut, or read as
// another, is wiped.
type keepFlag []string

func (k *keepFlag) String() string { return strings.Join(*k, ",") }
func (k *keepFlag) Type() string   { return "WHAT" }

// Set takes one word of the command line.
func (k *keepFlag) Set(word string) error {
	if strings.HasPrefix(word, "/") {
		*k = append(*k, word)
		return nil
	}
	for _, w := range strings.Split(word, ",") {
		if strings.HasPrefix(w, "/") {
			return fmt.Errorf("%q is a path in a list: give each path a --keep of its own", w)
		}
		*k = append(*k, w)
	}
	return nil
}

// check refuses what looks like a list of paths and names nothing in the system at root: read as one path it would keep none of them.
func (k keepFlag) check(root string) error {
	var errs []error
	for _, w := range k {
		if !strings.HasPrefix(w, "/") || !strings.Contains(w, ",/") {
			continue
		}
		if _, err := os.Lstat(filepath.Join(root, w)); errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			errs = append(errs, fmt.Errorf("keep %q: there is no such path; of several paths give each a --keep of its own", w))
		}
	}
	return errors.Join(errs...)
}

func (k *keptState) reset(w io.Writer, v *verb, r state.Request) error {
	if err := r.CheckSecure(k.record.State.Secure); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	plan, err := k.PlanReset(r, k.places)
	if err != nil {
		return err
	}
	if path.IsAbs(r.Scope) {
		if len(plan.Steps) == 0 {
			return fmt.Errorf("reset: nothing is kept at %s or below it: each boot resets it", printable(r.Scope))
		}
		if !k.keeps(r.Scope) { // only what lies below it is kept, and listed
			plan.Notes = append(plan.Notes[1:], fmt.Sprintf("Of %s itself each boot keeps nothing; below it there are places that are kept.", printable(r.Scope)))
		}
	}
	rep := resetReport{Scope: r.Scope, Secure: r.Secure, Key: r.Secure && k.record.State.Secure == state.SecureDestroy, Wiped: []resetStep{}, Kept: []resetStep{}, Notes: append([]string{}, plan.Notes...)}
	if !v.dryRun {
		if r, err = k.File(r, k.now); err != nil {
			return err
		}
		rep.ID = r.ID
	}
	if v.dryRun || v.json {
		for _, s := range plan.Steps {
			size, err := k.Measure(s)
			if err != nil {
				return err
			}
			rep.Wiped = append(rep.Wiped, resetStep{k.shown(s.From), s.From, s.Except, size.Bytes, size.Files})
		}
		for _, place := range plan.Kept {
			size, err := k.MeasureKept(place)
			if err != nil {
				return err
			}
			if size.Files > 0 {
				rep.Kept = append(rep.Kept, resetStep{k.shown(place), place, nil, size.Bytes, size.Files})
			}
		}
	}
	return v.print(w, rep, func(w io.Writer) { rep.words(w) })
}

// keeps reports whether a path lies in a place of the state.
func (k *keptState) keeps(name string) bool {
	return slices.ContainsFunc(k.places, func(p state.Place) bool {
		return p.Path == "/" || name == p.Path || strings.HasPrefix(name, p.Path+"/")
	})
}

func (r resetReport) words(w io.Writer) {
	for _, n := range r.Notes {
		fmt.Fprintln(w, n)
	}
	if r.ID != "" {
		fmt.Fprintf(w, "Filed as %s: the next boot carries it out. Until then 'veneer reset --cancel %s' takes it back.\n", r.ID, r.ID)
		if r.Secure {
			r.finality(w)
		} else {
			fmt.Fprintln(w, "After it 'veneer undo' brings back what was wiped, until that boot is blessed.")
		}
		return
	}
	lines := func(steps []resetStep) {
		none := true
		for _, s := range steps {
			if s.Files == 0 {
				continue
			}
			none = false
			but := ""
			if len(s.Except) > 0 {
				but = " but " + quoteAll(s.Except)
			}
			fmt.Fprintf(w, "  %s%s: %s\n", quoteAll([]string{s.Path}), but, amount(state.Size{Bytes: s.Bytes, Files: s.Files}))
		}
		if none {
			fmt.Fprintln(w, "  nothing")
		}
	}
	fmt.Fprintln(w, "The next boot would wipe:")
	lines(r.Wiped)
	fmt.Fprintln(w, "and keep of it:")
	lines(r.Kept)
	if r.Secure {
		r.finality(w)
	}
}

// finality says what a secure reset means.
func (r resetReport) finality(w io.Writer) {
	if r.Key {
		fmt.Fprintln(w, "The key of the state is destroyed, and the state made anew. Nothing can be brought back after that, by anybody.")
		return
	}
	fmt.Fprintln(w, "Nothing can be brought back after that. The state is not encrypted: what is deleted may be read from the medium until it is")
	fmt.Fprintln(w, "written over, and flash keeps old blocks as it likes. Encrypt what must be wiped for certain (state.unlock).")
}

func quoteAll(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = printable(s)
	}
	return strings.Join(quoted, ", ")
}
