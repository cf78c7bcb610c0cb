//go:build !onboard

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"veneer/images/build"
	"veneer/images/device"
)

// writeFlags are the flags of `veneer write`.
type writeFlags struct {
	partition, file, yes, dryRun, noVerify, keepState, asJSON bool
}

func writeCommand() *cobra.Command {
	var f writeFlags
	cmd := &cobra.Command{
		Use:   "write IMAGE DEVICE",
		Short: "Write a disk or an ISO to a device, with checks",
		Long: `Write disk.img or disk.iso to a whole device, such as a stick, and read it back. What is on the device now is lost.

A device is refused that is in use (mounted, swapped to, part of LVM, of a RAID or of anything else that is stacked on it), that the
running system is on, that is read-only, too small, or has other sectors than the image. On a terminal the name of the device has to be
typed, and so has that of a file which is there already (--file); without a terminal it takes --yes. Until all of the image is on the
device nothing can be started from it.`,
		Example: `  veneer write out/disk.iso /dev/sdb
  veneer write --dry-run out/disk.img /dev/sdb
  veneer write --yes --keep-state out/disk.iso /dev/sdb`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0], args[1]) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.yes, "yes", false, "do not ask")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show the device and what speaks against it, and do nothing")
	flags.BoolVar(&f.keepState, "keep-state", false, "keep the partitions behind the image, such as a state that a boot made there; the image may not reach them")
	flags.BoolVar(&f.noVerify, "no-verify", false, "do not read back what was written")
	flags.BoolVar(&f.partition, "partition", false, "DEVICE is a partition, and the image a file system such as store.img")
	flags.BoolVar(&f.file, "file", false, "DEVICE is a file, which is made where there is none")
	flags.BoolVar(&f.asJSON, "json", false, "with --dry-run: print JSON")
	return cmd
}

func (f writeFlags) run(cmd *cobra.Command, image, path string) (err error) {
	if f.asJSON && !f.dryRun {
		return usageError{errors.New("--json: goes with --dry-run")}
	}
	img, err := device.Open(image)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	spec := device.Spec{Image: img, Partition: f.partition, KeepState: f.keepState, NoVerify: f.noVerify}
	if f.file {
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
			return usageError{fmt.Errorf("--file: %s is no file", path)}
		}
		spec.Target = device.Target{Path: path, File: true, Holds: []device.Part{}}
	} else if spec.Target, err = device.Look(path); err != nil {
		return err
	}
	against := spec.Check()
	if f.dryRun && f.asJSON {
		if err := printTargetJSON(cmd.OutOrStdout(), spec.Target, against); err != nil {
			return err
		}
	} else {
		describeTarget(cmd.ErrOrStderr(), spec.Target)
	}
	if f.dryRun && against != nil && f.asJSON {
		return errSilent
	}
	if against != nil || f.dryRun {
		return against
	}
	if _, err := os.Lstat(path); !f.yes && (!f.file || err == nil) { // a file that is not there is no loss
		name := spec.Target.Name
		if f.file {
			name = filepath.Base(path)
			fmt.Fprintf(cmd.ErrOrStderr(), "%s is there already\n", path)
		}
		if err := askForName(cmd, name); err != nil {
			return err
		}
	}
	progress := newProgress(cmd.ErrOrStderr())
	what := ""
	spec.Progress = func(now string, done, total int64) {
		if now != what {
			if what != "" {
				progress.Finish("%s", build.FormatBytes(total))
			}
			what = now
			progress.Start(now, total)
		}
		progress.Set(done, total)
	}
	err = device.Write(cmd.Context(), spec)
	if err != nil {
		progress.Stop()
		// The usual text for an interrupted command says that nothing is left half done.
		if errors.Is(err, context.Canceled) {
			return fmt.Errorf("interrupted: %s", err.Error())
		}
		return err
	}
	progress.Finish("%s", build.FormatBytes(img.Size()))
	done := "is written; it can be taken out"
	if f.file {
		done = "is written"
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s %s\n", path, done)
	return nil
}

// askForName has the name of the device typed: a "y" is typed too easily.
func askForName(cmd *cobra.Command, name string) error {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return usageError{errors.New("there is no terminal to ask on: give --yes if all that is there now may be lost")}
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "All of it is lost. Type %s to write to it: ", name)
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimPrefix(strings.TrimSpace(answer), "/dev/") != name {
		return errors.New("that is not its name; nothing was written")
	}
	return nil
}

func describeTarget(w io.Writer, t device.Target) {
	if t.File {
		return
	}
	kind := "disk"
	if t.Removable {
		kind = "removable disk"
	}
	if t.Disk != "" {
		kind = "partition of " + t.Disk
	}
	about := []string{kind, build.FormatBytes(t.Size)}
	for _, s := range []string{t.Transport, t.Model} {
		if s != "" {
			about = append(about, s)
		}
	}
	if t.Serial != "" {
		about = append(about, "serial "+t.Serial)
	}
	fmt.Fprintf(w, "%s: %s\n", t.Path, harmless(strings.Join(about, ", ")))
	for _, p := range t.Holds {
		holds := p.Type
		if holds == "" {
			holds = "nothing known"
		}
		if p.Label != "" {
			holds += fmt.Sprintf(" %q", p.Label)
		}
		if p.Table != "" {
			holds += fmt.Sprintf(", partition %q", p.Table)
		}
		fmt.Fprintf(w, "  %s: %s, %s\n", p.Name, build.FormatBytes(p.Size), harmless(holds))
	}
}

func printTargetJSON(w io.Writer, t device.Target, against error) error {
	report := struct {
		device.Target
		Error string `json:"error,omitempty"`
	}{Target: t}
	if against != nil {
		report.Error = against.Error()
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return fmt.Errorf("encode JSON: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s\n", text)
	return err
}
