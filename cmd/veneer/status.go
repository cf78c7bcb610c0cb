package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"veneer/stage/report"
)

// statusForms are the ways in which `veneer status` can answer.
type statusForms struct {
	json, timeline bool
	rules, banner  bool
	picture        bool   // --svg was given
	svg            string // file, - for standard output
}

// svgToOutput is what --svg means without a file.
const svgToOutput = "-"

func newStatus() *cobra.Command {
	var forms statusForms
	var root string
	cmd := &cobra.Command{
		Use:   "status [--json | --rules | --banner | --timeline | --svg [FILE]]",
		Short: "Show what this machine booted, who vouches for it, and whether anything is degraded",
		Long: `Show what the init decided and why, from the record that it left in /run/veneer/state.json, and how full the upper and the state are.
A boot that is less than was asked for is told first, and loudly; --banner prints what a login shows of it, or nothing.
On a machine that Veneer did not boot it says so, with exit code 1.`,
		Example: `  veneer status
  veneer status --json | jq .verified
  veneer status --rules
  veneer status --timeline
  veneer status --svg boot.svg`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			forms.picture = cmd.Flags().Changed("svg")
			forms, err := forms.check(args)
			if err != nil {
				return usageError{err}
			}
			r, err := report.Read(root)
			if err != nil {
				return err
			}
			return forms.print(cmd.OutOrStdout(), r)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&forms.json, "json", false, "print the record and the upper's space as JSON")
	flags.BoolVar(&forms.rules, "rules", false, "list the rules in force: path, action, form, source and who said so")
	flags.BoolVar(&forms.banner, "banner", false, "print what logins show of a degraded or ephemeral boot")
	flags.BoolVar(&forms.timeline, "timeline", false, "draw the steps of the boot as bars")
	flags.StringVar(&forms.svg, "svg", "", "write the bars as an SVG picture to `FILE`, or to the standard output")
	flags.Lookup("svg").NoOptDefVal = svgToOutput
	flags.StringVar(&root, "root", "/", "look at the system in this directory")
	if err := flags.MarkHidden("root"); err != nil {
		panic(err) // the flag was defined above
	}
	return cmd
}

// check takes the file of --svg, which as an optional value may stand apart from its flag, and allows one form only.
func (f statusForms) check(args []string) (statusForms, error) {
	if len(args) == 1 {
		if !f.picture || f.svg != svgToOutput {
			return f, fmt.Errorf("status: unexpected %q", args[0])
		}
		f.svg = args[0]
	}
	if f.picture && f.svg == "" {
		return f, errors.New("status: --svg with an empty name; name a file, or leave the = out for the standard output")
	}
	n := 0
	for _, asked := range []bool{f.json, f.rules, f.banner, f.timeline, f.picture} {
		if asked {
			n++
		}
	}
	if n > 1 {
		return f, errors.New("status: --json, --rules, --banner, --timeline and --svg exclude each other")
	}
	return f, nil
}

func (f statusForms) print(w io.Writer, r *report.Report) error {
	switch {
	case f.json:
		return r.JSON(w)
	case f.rules:
		_, err := io.WriteString(w, r.RulesText())
		return err
	case f.banner:
		_, err := io.WriteString(w, r.Banner())
		return err
	case f.timeline:
		_, err := io.WriteString(w, r.Timeline(chartFor(w, os.Getenv)))
		return err
	case f.picture && f.svg == svgToOutput:
		_, err := w.Write(r.SVG())
		return err
	case f.picture:
		return os.WriteFile(f.svg, r.SVG(), 0o644)
	}
	return r.Text(w)
}

// chartFor fits the bars to where they are printed: the terminal's width and, as the locale says, its characters.
func chartFor(w io.Writer, env func(string) string) report.Chart {
	var c report.Chart
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			c.Width = width
		}
	}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale := strings.ToLower(env(name)); locale != "" {
			c.Blocks = strings.HasSuffix(locale, "utf-8") || strings.HasSuffix(locale, "utf8")
			break
		}
	}
	return c
}
