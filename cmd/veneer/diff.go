package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"veneer/overlay/changes"
	"veneer/stage/report"
)

// diffForms are the ways in which `veneer diff` can answer.
type diffForms struct{ json, patch, stat, all bool }

func newDiff() *cobra.Command {
	var forms diffForms
	var root string
	cmd := &cobra.Command{
		Use:   "diff [SNAPSHOT] [PATH] [--patch | --stat | --json]",
		Short: "Show what differs from the base, path by path",
		Long: `Show what was written over the images, over the whole machine or at PATH and below it: in the uppers of the root and of the rules,
and in the data that persist rules keep, which is compared with what the images have there. A word without a slash names a snapshot
when there is one of that name: then what is now is compared with it, as a whole or at PATH.

  A  added      M  modified      D  deleted, with all below it      m  metadata only      T  another type of file
  =  copied up and equal (--all)      #  left out: a mount of its own, or a masked path

Times alone are no change. A renamed directory is compared with what it was renamed from. The exit code says whether the
comparison could be made, not whether something differs: 0 or 1.`,
		Example: `  veneer diff
  veneer diff /etc --patch
  veneer diff --json | jq -r '.[] | select(.type == "deleted") | .path'
  veneer diff before-the-update /etc`,
		Args: args(cobra.MaximumNArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := forms.check(); err != nil {
				return usageError{err}
			}
			m, o, err := diffOf(root, args)
			if err != nil {
				return err
			}
			if forms.all {
				o.Same, o.Hidden = true, -1
			}
			return forms.print(cmd.Context(), cmd.OutOrStdout(), m, o)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&forms.json, "json", false, "print the changes as a JSON list")
	flags.BoolVar(&forms.patch, "patch", false, "show how text files differ, as patch -p1 takes it")
	flags.BoolVar(&forms.stat, "stat", false, "print numbers only")
	flags.BoolVar(&forms.all, "all", false, "list what was copied up and is equal too, and all that a replaced directory hides")
	addRoot(cmd, &root)
	return cmd
}

// addRoot lets tests look at another system than the running one.
func addRoot(cmd *cobra.Command, root *string) {
	cmd.Flags().StringVar(root, "root", "/", "look at the system in this directory")
	if err := cmd.Flags().MarkHidden("root"); err != nil {
		panic(err) // the flag was defined above
	}
}

func (f diffForms) check() error {
	n := 0
	for _, asked := range []bool{f.json, f.patch, f.stat} {
		if asked {
			n++
		}
	}
	if n > 1 {
		return errors.New("diff: --json, --patch and --stat exclude each other")
	}
	return nil
}

// machineOf is the system in root, as its record describes it.
func machineOf(root string) (*report.Report, *changes.Machine, error) {
	r, err := report.Read(root)
	if err != nil {
		return nil, nil, err
	}
	m, err := r.Machine(root)
	return r, m, err
}

// diffOf is what is to be compared.
func diffOf(root string, args []string) (*changes.Machine, changes.Options, error) {
	var o changes.Options
	r, m, err := machineOf(root)
	if err != nil || len(args) == 0 {
		return m, o, err
	}
	if len(args) == 2 || !strings.Contains(args[0], "/") {
		err := r.Against(m, root, args[0])
		if err != nil && (len(args) == 2 || !errors.Is(err, os.ErrNotExist)) {
			return m, o, err
		}
		if err == nil {
			args = args[1:]
		}
	}
	if len(args) == 0 {
		return m, o, nil
	}
	if args[0] == "" {
		return m, o, errEmptyPath
	}
	if o.Path, err = m.Reach(absolute(root, args[0])); err != nil {
		return m, o, err
	}
	return m, o, nil
}

// errEmptyPath is a path without a letter: a variable that was not set, which must not come to mean the working directory.
var errEmptyPath = usageError{errors.New("the path is empty")}

// absolute is a path as the shell's user means it, in the system that is looked at.
func absolute(root, p string) string {
	if !filepath.IsAbs(p) && root == "/" {
		if wd, err := os.Getwd(); err == nil {
			p = filepath.Join(wd, p)
		}
	}
	return filepath.Clean("/" + p)
}

func (f diffForms) print(ctx context.Context, w io.Writer, m *changes.Machine, o changes.Options) error {
	out := &printer{w: w, forms: f, terminal: isTerminal(w), totals: map[changes.Type]int{}}
	out.start()
	for c, err := range m.Changes(ctx, o) {
		switch {
		case err != nil && len(out.failed) == maxFailures:
			out.failed = append(out.failed, errors.New("and more"))
		case err != nil && len(out.failed) < maxFailures:
			out.failed = append(out.failed, err)
		case err == nil:
			if err := out.change(c); err != nil {
				return err
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := out.end(m.Notes); err != nil {
		return err
	}
	return errors.Join(out.failed...)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// maxFailures is how many paths that could not be compared are told at the end.
const maxFailures = 20

// printer writes changes as they come.
type printer struct {
	w        io.Writer
	forms    diffForms
	terminal bool
	listed   int
	totals   map[changes.Type]int
	size     int64
	failed   []error
}

func (p *printer) start() {
	if p.forms.json {
		fmt.Fprint(p.w, "[")
	}
}

func (p *printer) change(c changes.Change) error {
	p.totals[c.Type] += max(1, c.More)
	if c.Type == changes.Added || c.Type == changes.Modified || c.Type == changes.TypeChanged {
		p.size += c.Size
	}
	switch {
	case p.forms.stat:
		return nil
	case p.forms.json:
		text, err := json.Marshal(c)
		if err != nil {
			return err
		}
		comma := ","
		if p.listed == 0 {
			comma = ""
		}
		p.listed++
		_, err = fmt.Fprintf(p.w, "%s\n  %s", comma, text)
		return err
	}
	if _, err := fmt.Fprintln(p.w, c); err != nil || !p.forms.patch || c.Type == changes.LeftOut {
		return err
	}
	return c.Patch(p.w, p.terminal)
}

func (p *printer) end(notes []string) error {
	if p.forms.json {
		_, err := fmt.Fprintln(p.w, "\n]")
		return err
	}
	for _, n := range notes {
		fmt.Fprintf(p.w, "# %s\n", changes.Plain(n))
	}
	if !p.forms.stat {
		return nil
	}
	for _, t := range []changes.Type{changes.Added, changes.Modified, changes.Deleted, changes.Metadata, changes.TypeChanged, changes.Same, changes.LeftOut} {
		if n := p.totals[t]; n > 0 {
			fmt.Fprintf(p.w, "%8d  %s\n", n, t)
		}
	}
	_, err := fmt.Fprintf(p.w, "%8s  in what was added or modified\n", report.Size(p.size))
	return err
}
