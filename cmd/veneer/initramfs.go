//go:build !onboard

package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"veneer/initramfs/installed"
)

func initramfsCommand() *cobra.Command {
	spec := installed.Spec{}
	var running, remove, noHooks, asJSON bool
	var out string
	cmd := &cobra.Command{
		Use:   "initramfs --for-running-kernel | --kernel RELEASE | --remove",
		Short: "Boot an installed system under an overlay, by an entry of its boot menu",
		Long: `Make an initramfs that boots the root partition of this installed system under an overlay, put it beside the distribution's
own, and add an entry to the boot menu (GRUB or systemd-boot). The distribution's entries, kernels and initramfs stay as they are,
and so does what boots when nobody chooses. Nothing of such a root is verified.

Without a word more the upper is in memory: what is written is gone at the next boot. When kernel packages come and go, hooks in
/etc/kernel renew the entries. --remove takes all of it away, or with --kernel what belongs to one kernel.`,
		Example: `  veneer initramfs --for-running-kernel --dry-run
  veneer initramfs --for-running-kernel
  veneer initramfs --kernel 6.1.0-18-amd64 --append 'veneer.upper=persistent veneer.state=LABEL=UPPER'
  veneer initramfs --for-running-kernel -o initramfs.img
  veneer initramfs --remove`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if running {
				var uts unix.Utsname
				if err := unix.Uname(&uts); err != nil {
					return err
				}
				spec.Release = unix.ByteSliceToString(uts.Release[:])
			}
			switch {
			case remove && out != "":
				return usageError{errors.New("--remove: -o has no meaning with it")}
			case !remove && spec.Release == "":
				return usageError{errors.New("want --for-running-kernel, --kernel RELEASE, or --remove")}
			}
			var r installed.Report
			switch {
			case remove:
				r, err = installed.Remove(spec)
			case out != "":
				r = installed.Report{DryRun: spec.DryRun, Changes: []string{"write " + out}}
				var image []byte
				if image, err = installed.Image(cmd.Context(), spec, &r); err == nil && !spec.DryRun {
					err = os.WriteFile(out, image, 0o644)
				}
			default:
				if !noHooks {
					if spec.Command, err = os.Executable(); err != nil {
						return err
					}
				}
				r, err = installed.Add(cmd.Context(), spec)
			}
			if err != nil {
				return err
			}
			return printReport(cmd.OutOrStdout(), r, asJSON)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&running, "for-running-kernel", false, "for the kernel that runs")
	flags.StringVar(&spec.Release, "kernel", "", "for the kernel `RELEASE`, as uname -r prints it")
	flags.StringVar(&spec.Root, "root", "/", "`DIRECTORY` of the system, where another one than this is meant")
	flags.StringVar(&spec.Device, "device", "", "the root as veneer.root= names it, `DEVICE[:/DIR]`; else what /etc/fstab says")
	flags.StringVar(&spec.Append, "append", "", "`WORDS` for the kernel command line, behind the distribution's; veneer.upper=tmpfs comes before them unless they name an upper")
	flags.BoolVar(&spec.Shell, "rescue-shell", false, "put a rescue shell into the initramfs")
	flags.StringVarP(&out, "output", "o", "", "only write the initramfs to `FILE`")
	flags.BoolVar(&remove, "remove", false, "take away what this command put there")
	flags.BoolVar(&noHooks, "no-hooks", false, "no hooks for kernel packages")
	flags.BoolVar(&spec.DryRun, "dry-run", false, "say what would be done, and do nothing")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	cmd.MarkFlagsMutuallyExclusive("for-running-kernel", "kernel")
	return cmd
}
