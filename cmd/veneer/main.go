// Command veneer builds, boots, shows and explains systems whose root is a thin writable layer over a verified base.
//
// One file per verb: flags, a call into the library, printing. Built with the tag `onboard` it holds only the verbs of the
// running machine, and that is the program which travels in the tools layer of every build.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"veneer/boot"
)

// Exit codes: 0 done, 1 failed, 2 usage.
const (
	exitFailed = 1
	exitUsage  = 2
)

// errSilent makes the program exit with exitFailed without a message: the verb has already printed its answer.
var errSilent = errors.New("failed, and said so")

// usageError marks a mistake in the way the command was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends what does not listen to the first
	os.Exit(run(ctx, newRoot(), os.Args[1:]))
}

func run(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	verb, err := root.ExecuteContextC(ctx)
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errSilent):
		return exitFailed
	case errors.As(err, &usage):
		help := "veneer help"
		if verb != nil && verb != root {
			help += " " + verb.Name()
		}
		fmt.Fprintf(root.ErrOrStderr(), "veneer: %s\nSee '%s'.\n", harmless(err.Error()), help)
		return exitUsage
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = fmt.Errorf("interrupted; nothing is left half done (%w)", err)
	}
	fmt.Fprintf(root.ErrOrStderr(), "veneer: %s\n", harmless(err.Error()))
	return exitFailed
}

// harmless is a message that may hold names of files as a terminal may show it: what steers it is escaped, lines stay lines.
func harmless(message string) string {
	var b strings.Builder
	for i, c := range message {
		switch {
		case c == utf8.RuneError && !strings.HasPrefix(message[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, message[i])
		case c == '\n' || strconv.IsPrint(c):
			b.WriteRune(c)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(c), "'"))
		}
	}
	return b.String()
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "veneer",
		Version:       boot.Version,
		Short:         "Boot Linux from a verified read-only base with a thin writable layer",
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("no such command %q", args[0])}
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(hostCommands()...)
	root.AddCommand(boardCommands()...)
	return root
}

// args turns cobra's complaints about positional arguments into usage errors.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return usageError{fmt.Errorf("%s: %w", cmd.Name(), err)}
		}
		return nil
	}
}
