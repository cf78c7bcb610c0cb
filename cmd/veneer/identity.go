package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"veneer/boot"
	"veneer/overlay/identity"
	"veneer/overlay/rule"
	"veneer/stage"
	"veneer/stage/report"
)

// newIdentity is for the units of the tools layer, and for inits that have no units.
func newIdentity() *cobra.Command {
	var root string
	var booted bool
	cmd := &cobra.Command{Use: "identity", Short: "Keep what makes this machine itself", Hidden: true, Args: args(cobra.NoArgs)}
	save := &cobra.Command{
		Use:   "save",
		Short: "Take what has changed of this machine's identity into the state",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := report.Read(root)
			if err != nil {
				return err
			}
			return saveIdentity(cmd, root, r.Record, booted)
		},
	}
	save.Flags().BoolVar(&booted, "booted", false, "the boot is complete: what is to run at a first boot has run")
	keys := &cobra.Command{
		Use:   "keys",
		Short: "Make the host keys of sshd, if this machine is to have its own and has none",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := report.Read(root)
			if err != nil {
				return err
			}
			wanted, err := identity.WantsHostKeys(root, settingsOf(r.Record))
			if err != nil || !wanted {
				return err
			}
			if err := makeHostKeys(cmd.Context(), root, settingsOf(r.Record)); err != nil {
				return err
			}
			return saveIdentity(cmd, root, r.Record, false)
		},
	}
	cmd.PersistentFlags().StringVar(&root, "root", "/", "look at the system in this directory")
	cmd.AddCommand(save, keys)
	return cmd
}

func settingsOf(r *stage.Record) []identity.Setting {
	var settings []identity.Setting
	for _, i := range r.Identity {
		settings = append(settings, identity.Setting{Name: i.Name, Mode: identity.Mode(i.Mode)})
	}
	return settings
}

// saveIdentity does nothing on a machine that keeps nothing.
func saveIdentity(cmd *cobra.Command, root string, r *stage.Record, booted bool) error {
	state := filepath.Join(root, stage.RunDir, "state")
	if _, err := os.Stat(state); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	store, err := identity.OpenStore(filepath.Join(state, stage.IdentityDir))
	if err != nil {
		return err
	}
	defer store.Close()
	env := identity.Env{Platform: identity.Platform(root), System: identity.Linux{}}
	for _, img := range r.Images {
		env.Images = append(env.Images, filepath.Join(root, img.Mount))
	}
	env.Kept.Root = r.Upper.Kind == string(boot.UpperPersistent)
	for _, s := range r.Rules {
		env.Kept.Rules = append(env.Kept.Rules, rule.Rule{Path: s.Path, Action: rule.Action(s.Action)})
	}
	done, err := identity.Save(root, store, settingsOf(r), env, booted)
	errs := []error{err}
	for _, d := range done {
		if d.Err != nil {
			errs = append(errs, d.Err)
			continue
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", d.Name, d.What)
	}
	return errors.Join(errs...)
}

// makeHostKeys makes a key of each kind that sshd uses; where they are made anew at each boot, none of RSA, which takes seconds
// and is for clients from before 2014 (OpenSSH 6.5).
func makeHostKeys(ctx context.Context, root string, settings []identity.Setting) error {
	commands := [][]string{{"ssh-keygen", "-A", "-f", root}}
	if !slices.Contains(settings, identity.Setting{Name: identity.SSHHostKeys, Mode: identity.Persist}) {
		commands = nil
		for _, kind := range []string{"ed25519", "ecdsa"} {
			file := filepath.Join(root, "etc/ssh/ssh_host_"+kind+"_key")
			commands = append(commands, []string{"ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", file})
		}
	}
	for _, argv := range commands {
		if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
		}
	}
	return nil
}
