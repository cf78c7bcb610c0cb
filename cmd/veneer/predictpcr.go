//go:build !onboard

package main

import (
	"github.com/spf13/cobra"

	"veneer/images/build"
)

func predictCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "predict-pcr [out/]",
		Short: "Say what the registers of a TPM hold after a boot of a build output",
		Long: `Compute what a boot of a build output leaves in the registers (PCRs) of a TPM 2.0, in their SHA-256 bank, to seal keys to or to hold
what a machine attests against: 11, which systemd's stub extends by the UKI, and 13, which the init extends by the manifest and the
images where the initramfs asks a TPM (trust.tpm). Firmware and Secure Boot (0 to 7) are the machine's, and not told here.`,
		Example: `  veneer predict-pcr out/
  veneer predict-pcr --json | jq -r '.registers[] | select(.number == 13).sha256'`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := build.Predict(cmd.Context(), pathOrOut(args))
			if err != nil {
				return err
			}
			return printReport(cmd.OutOrStdout(), found, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
