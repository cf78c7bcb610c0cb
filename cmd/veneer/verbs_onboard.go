//go:build onboard

package main

import "github.com/spf13/cobra"

// hostCommands is empty on board: a running machine builds nothing.
func hostCommands() []*cobra.Command { return nil }
