package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"veneer/boot"
	"veneer/stage"
)

// newParameters is a help topic: cobra shows a command that does nothing under "Additional help topics".
func newParameters() *cobra.Command {
	cmd := &cobra.Command{Use: "parameters", Short: "The kernel command line parameters that the init honours"}
	cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) { printParameters(cmd.OutOrStdout()) })
	return cmd
}

func printParameters(w io.Writer) {
	for _, p := range boot.Params() {
		name := p.Name
		if p.Value != "" {
			name += "=" + p.Value
		}
		fmt.Fprintf(w, "%s\n    %s\n", name, p.Doc)
	}
	fmt.Fprintf(w, "\nSteps, for veneer.break=: %s.\n", strings.Join(stage.Steps, ", "))
}

// parametersPage is docs/parameters.md.
func parametersPage() string {
	var b strings.Builder
	b.WriteString(`# Kernel command line

Made from the table that the init itself reads (boot/params.go); a test compares the two. The defaults that ` + "`veneer build`" + `
puts into the initramfs have the same syntax; what the boot loader says wins over them. Every mistake on the line is reported
at once, and below ` + "`veneer.`" + ` an unknown word is a mistake. Words after ` + "`--`" + ` go to the next init.

| parameter | what it does |
|---|---|
`)
	for _, p := range boot.Params() {
		name := p.Name
		if p.Value != "" {
			name += "=" + p.Value
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", strings.ReplaceAll(name, "|", `\|`), strings.ReplaceAll(p.Doc, "|", `\|`))
	}
	b.WriteString("\nThe steps, as `veneer.break=` names them (a space may be written as a hyphen; the first two are over when it is read):\n\n")
	for i, s := range stage.Steps {
		fmt.Fprintf(&b, "%d. %s\n", i+1, s)
	}
	b.WriteString("\nTo see what a line would do, without a boot: `veneer plan --cmdline '...'`.\n")
	return b.String()
}
