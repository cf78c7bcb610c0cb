// Package busybox builds many commands into one program, by u-root's busybox mode. It needs the Go toolchain, and is meant for
// programs that run in the root of the module, whose go.mod names u-root.
package busybox

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/u-root/gobusybox/src/pkg/golang"
	"github.com/u-root/mkuimage/cpio"
	"github.com/u-root/mkuimage/uimage"
	"github.com/u-root/uio/llog"
)

// Core is where u-root keeps its everyday commands.
const Core = "github.com/u-root/u-root/cmds/core/"

// Shell is the command sh, which runs gosh.
const Shell = "veneer/initramfs/release/sh"

// plainShell builds gosh without the line editor, which draws over a serial console.
const plainShell = "goshsmall"

// Build returns bbin/bb, which is all the commands, and a link bbin/NAME for each. scratch is a directory for what is written
// on the way. The same commands give the same bytes.
func Build(arch, scratch string, packages []string) ([]cpio.Record, error) {
	dir, err := os.MkdirTemp(scratch, "busybox-")
	if err != nil {
		return nil, err
	}
	env := golang.Default(golang.DisableCGO(), golang.WithGOOS("linux"), golang.WithGOARCH(arch), golang.WithBuildTag(plainShell))
	file := filepath.Join(dir, "busybox.cpio")
	log := &strings.Builder{}
	quiet := llog.New(slog.LevelWarn, func(format string, args ...any) { fmt.Fprintf(log, format+"\n", args...) })
	none, err := cpio.ArchiveFromRecords(nil)
	if err != nil {
		return nil, err
	}
	err = uimage.Create(quiet, uimage.WithReplaceEnv(env), uimage.WithTempDir(dir), uimage.WithSkipLDD(),
		uimage.WithBaseArchive(none), uimage.WithBusyboxBuildOpts(&golang.BuildOpts{ExtraArgs: []string{"-p=2"}}),
		uimage.WithBusyboxCommands(packages...), uimage.WithCPIOOutput(file))
	if err != nil {
		return nil, fmt.Errorf("build %d commands for %s: %w\n%s", len(packages), arch, err, log)
	}
	return commands(file)
}

// commands reads the archive that was built, without what u-root's archives hold beside the commands.
func commands(file string) (records []cpio.Record, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	all, err := cpio.ReadAllRecords(cpio.Newc.FileReader(f))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	for _, r := range all {
		if !strings.HasPrefix(r.Name, "bbin/") {
			continue
		}
		content, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize))) // the file goes with scratch
		if err != nil {
			return nil, fmt.Errorf("read %s of %s: %w", r.Name, file, err)
		}
		records = append(records, cpio.StaticRecord(content, r.Info))
	}
	slices.SortFunc(records, func(a, b cpio.Record) int { return strings.Compare(a.Name, b.Name) })
	return records, nil
}
