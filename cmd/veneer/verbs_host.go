//go:build !onboard

package main

import "github.com/spf13/cobra"

// hostCommands are the verbs of the build host.
func hostCommands() []*cobra.Command {
	return []*cobra.Command{
		keygenCommand(),
		buildCommand(),
		verifyCommand(),
		installCommand(),
		initramfsCommand(),
		inspectCommand(),
		predictCommand(),
		runCommand(),
		writeCommand(),
	}
}
