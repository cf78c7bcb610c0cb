package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func newWhy() *cobra.Command {
	var asJSON bool
	var root string
	cmd := &cobra.Command{
		Use:   "why PATH",
		Short: "Show which image, upper or rule supplies a path, what it hides, and what it survives",
		Long: `Show who supplies PATH: an image (tools, base or a layer) or what was written over it; by which rule; whether it is verified;
what it differs in; whether it survives a reboot, another base and a reset; and each layer that has something there, the top first.
Of a path that is not there it says who deleted it, or that nobody has it. Of a link it tells the link, and then what that leads to.`,
		Example: `  veneer why /etc/hostname
  veneer why /bin/sh
  veneer why --json /etc/motd | jq .survives.reboot.kept`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "" {
				return errEmptyPath
			}
			_, m, err := machineOf(root)
			if err != nil {
				return err
			}
			a, err := m.Why(absolute(root, args[0]))
			if err != nil {
				return err
			}
			if asJSON {
				return indented(cmd.OutOrStdout(), a)
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), a.Text())
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	addRoot(cmd, &root)
	return cmd
}

// indented writes JSON for programs, and for the people who look at what they read.
func indented(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
