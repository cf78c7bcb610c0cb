//go:build !onboard

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"veneer/images/build"
)

func buildCommand() *cobra.Command {
	var (
		file   string
		spec   build.Spec
		pass   passphraseFlags
		asJSON bool
		dryRun bool
	)
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Turn a root file system tree into signed images, an initramfs and a store",
		Long: `Turn the tree that veneer.toml names, a directory or a tar archive, into verified images, a signed manifest, the
initramfs and a store to boot from. The tree is only read. An archive needs no root; a directory needs whatever it takes
to read all of it.

What an image cannot keep of the tree is an error with its path, unless veneer.toml allows that loss by name. The same
tree and tools give the same bytes; times later than SOURCE_DATE_EPOCH are set to it, where that is set. The output
directory changes at the end, when everything is ready.`,
		Example: `  veneer build
  veneer build -f kiosk/veneer.toml -o /srv/kiosk
  veneer build --dry-run`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if spec.Out == "" {
				return usageError{errors.New("-o: want the name of a directory for the output")}
			}
			if spec.Epoch, err = sourceDateEpoch(os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
				return err
			}
			if spec.Config, err = build.Load(file); err != nil {
				return err
			}
			if dryRun {
				plan, err := build.DryRun(cmd.Context(), spec)
				if err != nil {
					return err
				}
				return printReport(cmd.OutOrStdout(), plan, asJSON)
			}
			spec.Passphrase = func() ([]byte, error) { return pass.ask(cmd.ErrOrStderr()) }
			spec.Progress = newProgress(cmd.ErrOrStderr())
			report, err := build.Build(cmd.Context(), spec)
			if err != nil {
				return err
			}
			return printReport(cmd.OutOrStdout(), report, asJSON)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&file, "file", "f", build.DefaultConfigName, "what to build")
	flags.StringVarP(&spec.Out, "output", "o", "out", "output directory; what a former build put there is replaced")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	flags.BoolVar(&dryRun, "dry-run", false, "look at the sources, print what would be done, and write nothing")
	pass.add(cmd)
	return cmd
}

// sourceDateEpoch reads the variable of https://reproducible-builds.org/specs/source-date-epoch/.
func sourceDateEpoch(s string) (*time.Time, error) {
	if s == "" {
		return nil, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return nil, usageError{fmt.Errorf("SOURCE_DATE_EPOCH=%q: want seconds since 1970", s)}
	}
	t := time.Unix(int64(n), 0)
	return &t, nil
}

func newProgress(w io.Writer) *build.Progress {
	f, ok := w.(*os.File)
	return build.NewProgress(w, ok && term.IsTerminal(int(f.Fd())))
}
