//go:build !onboard

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"veneer/images/build"
)

func verifyCommand() *cobra.Command {
	var (
		keys   []string
		certs  []string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "verify [out/ | STORE | STORE.img | DISK | ISO | UKI | MANIFEST | IMAGE]",
		Short: "Check signature, digests and every block",
		Long: `Check a build output, a store, a store in an ext4 image, a disk (raw, qcow2 or zstd, or the device that
it was written to), an ISO, a manifest or an image: the signature, the digests of kernel and initramfs, and every block of every image; of
a UKI, that its parts fit together. Nothing is mounted. Everything that is wrong is listed; the exit code is 1 then.

Without --key the keys that the initramfs of the output trusts are used. That shows that the output would boot, not who
made it: whoever can replace the manifest there can replace the initramfs too.`,
		Example: `  veneer verify
  veneer verify --key release.pub out/
  veneer verify --key release.pub /mnt/veneer
  veneer verify --key release.pub store.img
  veneer verify --key release.pub --cert db.crt disk.qcow2`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec := build.VerifySpec{Path: pathOrOut(args)}
			for _, name := range keys {
				key, err := build.ReadPublicKey(name)
				if err != nil {
					return err
				}
				spec.Keys = append(spec.Keys, key)
			}
			spec.Certs = certs
			progress := newProgress(cmd.ErrOrStderr())
			progress.Start("verify", 0)
			spec.Progress = progress.Set
			found, err := build.Verify(cmd.Context(), spec)
			progress.Stop()
			if err != nil {
				return err
			}
			if err := printReport(cmd.OutOrStdout(), found, asJSON); err != nil {
				return err
			}
			if !found.OK() {
				return errSilent
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&keys, "key", nil, "public key `FILE` to trust (repeatable)")
	cmd.Flags().StringArrayVar(&certs, "cert", nil, "certificate `FILE` (PEM) by which each UKI must be signed for Secure Boot (repeatable)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// pathOrOut is the argument, or the directory that 'veneer build' writes by default.
func pathOrOut(args []string) string {
	if len(args) == 1 {
		return filepath.Clean(args[0])
	}
	return "out"
}

// printReport prints a value that can write itself for people.
func printReport(w io.Writer, value interface{ WriteText(io.Writer) error }, asJSON bool) error {
	if !asJSON {
		return value.WriteText(w)
	}
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encode JSON: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s\n", text)
	return err
}
