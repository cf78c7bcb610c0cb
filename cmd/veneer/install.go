//go:build !onboard

package main

import (
	"github.com/spf13/cobra"

	"veneer/images/build"
)

func installCommand() *cobra.Command {
	var keys []string
	var asJSON bool
	spec := build.InstallSpec{Default: true}
	cmd := &cobra.Command{
		Use:   "install out/ STORE",
		Short: "Make a build output a deployment of a store",
		Long: `Verify a build output, copy the images that the store lacks, and make a deployment of the set, which boots from then on.
STORE is a mounted directory: the store itself, or the file system that holds it as veneer/; where there is no store, one is made.

Each image is read back and verified before it counts. At any instant, a power cut included, the store boots what it booted
before, or what was installed.

What firmware starts is renewed too, on the EFI system partition of the disk that the store lies on, if it starts this product already, or
on that of --esp: the UKI, and kernel and initramfs for a BIOS. What was there stays beside it. Elsewhere kernel and initramfs are the boot
loader's: take those of the same output.`,
		Example: `  veneer install out/ /mnt
  veneer install --dry-run --key release.pub out/ /mnt/veneer
  veneer install --esp /dev/sda1 out/ /mnt`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec.Output, spec.Store = args[0], args[1]
			for _, name := range keys {
				key, err := build.ReadPublicKey(name)
				if err != nil {
					return err
				}
				spec.Keys = append(spec.Keys, key)
			}
			progress := newProgress(cmd.ErrOrStderr())
			progress.Start("install", 0)
			spec.Progress = progress.Set
			done, err := build.Install(cmd.Context(), spec)
			progress.Stop()
			if err != nil {
				return err
			}
			return printReport(cmd.OutOrStdout(), done, asJSON)
		},
	}
	cmd.Flags().StringArrayVar(&keys, "key", nil, "public key `FILE` to trust (repeatable); else those of the output's initramfs")
	cmd.Flags().BoolVar(&spec.Default, "default", true, "boot it from now on; --default=false only puts it there")
	cmd.Flags().StringVar(&spec.ESP, "esp", "", "EFI system partition to renew: a `DEVICE`, the directory where it is mounted, or none\n(default that of the store's disk, if it is ours)")
	cmd.Flags().BoolVar(&spec.DryRun, "dry-run", false, "say what would be done, and do nothing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
