package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"veneer/boot"
	"veneer/boot/dialect"
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

// newDialects is a help topic: the parameters of others.
func newDialects() *cobra.Command {
	cmd := &cobra.Command{Use: "dialects", Short: "The parameters of dracut, live-boot, casper, archiso and others, and what becomes of them"}
	cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) { printDialects(cmd.OutOrStdout()) })
	return cmd
}

func printDialects(w io.Writer) {
	for _, r := range dialect.Rows() {
		fmt.Fprintf(w, "%s (%s): %s\n    %s\n", formOf(r), r.Dialect, r.Effect, r.Doc)
	}
}

func formOf(r dialect.Row) string {
	switch {
	case r.Form == "":
		return r.Name
	case strings.HasPrefix(r.Form, "["):
		return r.Name + "[=" + r.Form[1:]
	}
	return r.Name + "=" + r.Form
}

// dialectsPage is docs/dialects.md.
func dialectsPage() string {
	var b strings.Builder
	b.WriteString(`# Parameters of others

Made from the table that the init itself reads (boot/dialect/table.go); a test compares the two. The init variants live and net read
them, and so does ` + "`veneer plan --cmdline '...'`" + `, which shows what a line comes to; the local init goes by its defaults, whatever such a line
says. What our own parameters say (parameters.md) wins over them. Record and status list each word that was used, and what it came to.

A parameter is *taken*, or *without effect* where leaving it out changes nothing that was asked for, or *refused*, which ends the boot as
every mistake on the line does: before anything is touched, with the reason. A row with a sign is read only on a line that has the sign
of that dialect: ` + "`root=live:` or `rd.live.image` for dracut, `boot=live` for live-boot, `boot=casper` or `layerfs-path=` for casper, any `archiso...`" + `
for archiso. How media of others boot, and what of them is missing, says foreign-media.md.

| whose | parameter | sign | effect | what it does, or why not |
|---|---|---|---|---|
`)
	for _, r := range dialect.Rows() {
		var needs []string
		for _, n := range r.Needs {
			needs = append(needs, string(n))
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s |\n", r.Dialect, strings.ReplaceAll(formOf(r), "|", `\|`), strings.Join(needs, ", "), r.Effect, strings.ReplaceAll(r.Doc, "|", `\|`))
	}
	return b.String()
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
