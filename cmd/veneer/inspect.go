//go:build !onboard

package main

import (
	"github.com/spf13/cobra"

	"veneer/images/build"
)

func inspectCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect [out/ | MANIFEST | IMAGE | INITRAMFS | KERNEL | UKI | DISK]",
		Short: "Show what a manifest, an image, an initramfs, a kernel, a UKI or a disk says of itself",
		Long:  `Show what a file says of itself. Nothing is checked beyond its form: see 'veneer verify' for that.`,
		Example: `  veneer inspect
  veneer inspect --json out/initramfs.cpio.zst`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := build.Inspect(pathOrOut(args))
			if err != nil {
				return err
			}
			return printReport(cmd.OutOrStdout(), found, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
