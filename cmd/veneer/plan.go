package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"veneer/boot"
	"veneer/boot/dialect"
	"veneer/images"
	"veneer/stage"
	"veneer/stage/paper"
)

// localVariant is the variant of PID 1 that links nothing of package live. The on-board command does not link package initramfs.
const localVariant = "local"

// planRAM is the memory of the machine on paper, unless --memory says otherwise, and maxPlanRAM the most that it may say, in MiB.
const (
	planRAM    = 1024
	maxPlanRAM = 1 << 26
)

func newPlan() *cobra.Command {
	var cmdline, manifest, defaults string
	var memory int64
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "plan [--cmdline '...'] [--manifest FILE]",
		Short: "Show what the init would do for a kernel command line, without a boot",
		Long: `Plan runs the init's own recipe on a machine of paper: each step, and each mount as its shell equivalent.
Parameters of dracut, live-boot, casper, archiso and their kin are told in our own words first (veneer help dialects).
Without --manifest the set is an example with one base. Of a build output the initramfs is looked at too: its defaults, and whether
it has what the command line asks for. Mistakes on the command line are reported as the init would.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if memory < 1 || memory > maxPlanRAM {
				return usageError{fmt.Errorf("--memory %d: want 1 to %d MiB", memory, maxPlanRAM)}
			}
			text, err := planManifest(manifest)
			if err != nil {
				return err
			}
			built := builtFor(manifest)
			if built.defaults != "" && !cmd.Flags().Changed("defaults") {
				defaults = built.defaults
			}
			if err := built.refuses(defaults, cmdline); err != nil {
				return err
			}
			plan, err := makePlan(cmd.Context(), defaults, cmdline, text, memory<<20, built.variant)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(plan)
			}
			plan.print(cmd.OutOrStdout())
			return nil
		},
	}
	cmd.Flags().StringVar(&cmdline, "cmdline", "", "the kernel command line")
	cmd.Flags().StringVar(&manifest, "manifest", "", "manifest.json, or a build output directory")
	cmd.Flags().StringVar(&defaults, "defaults", "veneer.store=LABEL=VENEER", "what the initramfs says before the command line has its say")
	cmd.Flags().Int64Var(&memory, "memory", planRAM, "memory of the machine, MiB")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// builtIn is what an initramfs was built with, as far as it is known.
type builtIn struct {
	known                 bool
	defaults              string
	shell, unsignedCanRun bool
	variant               string // of PID 1; "" where it is not known
}

// refuses reports what the init of that initramfs would not do.
func (b builtIn) refuses(defaults, cmdline string) error {
	settings, err := stage.Configure(defaults, cmdline, dialect.Strings)
	if err != nil || !b.known {
		return nil // a mistake on the line is makePlan's to tell
	}
	var errs []error
	if settings.Config.Break != "" && !b.shell {
		errs = append(errs, errors.New("veneer.break= needs a rescue shell, and this initramfs was built without one"))
	}
	if settings.OnFail == boot.Shell && !b.shell {
		errs = append(errs, errors.New("on-fail=shell needs a rescue shell, and this initramfs was built without one"))
	}
	if settings.Config.Unverified && !b.unsignedCanRun {
		errs = append(errs, errors.New("veneer.verify=none: this initramfs was not built with allow-unsigned"))
	}
	return errors.Join(errs...)
}

// planStep is a step and what it would do.
type planStep struct {
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// planned is a boot on paper.
type planned struct {
	Aliases []string    `json:"aliases"` // others' parameters, and what each came to
	Steps   []planStep  `json:"steps"`
	OnFail  boot.OnFail `json:"on-fail"`
	Init    string      `json:"init"`
}

// makePlan plans a boot. Where nobody knows the variant of the init it is the smallest that can do what is asked.
func makePlan(ctx context.Context, defaults, cmdline string, manifest []byte, ram int64, variant string) (planned, error) {
	settings, err := stage.Configure(defaults, cmdline, dialect.Strings)
	if err != nil {
		return planned{}, err
	}
	p := planned{Aliases: append([]string{}, settings.Aliases...)}
	r := &stage.Runner{OnFail: settings.OnFail, Details: true}
	r.Record.Cmdline = cmdline
	r.Before = func(step string) error {
		p.Steps = append(p.Steps, planStep{Name: step, Actions: []string{}})
		if settings.Config.Break == step {
			p.Steps[len(p.Steps)-1].Actions = []string{"stop for the rescue shell, as veneer.break= asks"}
		}
		return nil
	}
	say := func(line string) {
		last := &p.Steps[len(p.Steps)-1]
		last.Actions = append(last.Actions, line)
	}
	r.Log = func(l stage.Level, line string) {
		if l != stage.Good || !strings.HasPrefix(line, "[") { // the steps themselves are the headings
			say(line)
		}
	}
	serial := settings.Config.Deployment
	if serial == "" {
		serial = "1"
	}
	m := &paper.Machine{Manifest: manifest, Serial: serial, Wait: settings.Config.Wait, RAM: ram, Say: say, Foreign: settings.Config.Foreign, ISO: settings.Config.Medium.Path}
	env := stage.Env{Settings: settings, Paper: true, RAM: ram}
	if variant != localVariant && (variant != "" || settings.Config.Larger != "" || settings.Config.Networked != "" || settings.Config.Foreign != nil || settings.Config.Root.Device.Kind != "") {
		env.Variant = planVariant(m, variant)
	}
	root, err := stage.Boot(ctx, r, m, env)
	p.OnFail, p.Init = r.OnFail, root.Init
	return p, err
}

func (p planned) print(w io.Writer) {
	if len(p.Aliases) > 0 {
		fmt.Fprintf(w, "others' parameters\n")
	}
	for _, a := range p.Aliases {
		fmt.Fprintf(w, "    %s\n", a)
	}
	for _, s := range p.Steps {
		fmt.Fprintf(w, "%s\n", s.Name)
		for _, a := range s.Actions {
			fmt.Fprintf(w, "    %s\n", a)
		}
	}
	fmt.Fprintf(w, "%s\n    move /dev /proc /sys /run, empty the initramfs, exec %s\n", stage.StepSwitchRoot, p.Init)
	fmt.Fprintf(w, "if a step fails: %s\n", p.OnFail)
}

// planManifest reads a manifest, or that of a build output, or makes an example.
func planManifest(name string) ([]byte, error) {
	if name == "" {
		example := images.Manifest{Format: images.Format, Name: "example", Version: "1", Architecture: "amd64", Corruption: images.EIO,
			Kernel:    images.Kernel{Release: "6.1.0", File: images.File{Name: "vmlinuz", Size: 1, SHA256: strings.Repeat("0", 64)}},
			Initramfs: images.File{Name: "initramfs.cpio.zst", Size: 1, SHA256: strings.Repeat("0", 64)},
			Root:      images.Root{Upper: "tmpfs", Size: "50%", OnFail: string(boot.Reboot)},
			Images: []images.Image{{Role: images.RoleBase, Name: "base", ID: strings.Repeat("0", 64), Size: 3 << 12, FileSystem: "squashfs",
				Verity: images.Verity{Algorithm: "sha256", BlockSize: 4096, DataBlocks: 1, HashOffset: 4096}}}}
		return example.Encode(), nil
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		name = filepath.Join(name, images.ManifestName)
	}
	// Before the open, which would wait for the writer of a fifo.
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, images.MaxManifest+1))
	if err != nil {
		return nil, err
	}
	if _, err := images.ParseManifest(text); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return text, nil
}
