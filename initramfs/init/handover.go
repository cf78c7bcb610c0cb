package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/stage"
)

// handOver leaves in /run the names that installers and systemd's tools look up.
func handOver(rec *stage.Record) error {
	links := map[string]string{
		stage.RunDir + "/store":  stage.StoreDir,
		stage.RunDir + "/base":   stage.BaseDir,
		stage.RunDir + "/layers": stage.LayersDir,
		stage.RunDir + "/upper":  stage.UpperDir,
		"/run/rootfsbase":        stage.BaseDir,
		"/run/overlayfs":         stage.UpperDir + "/upper",
		"/run/initramfs/live":    stage.StoreDir,
	}
	if strings.HasPrefix(rec.Store.Device, "/") && !rec.Store.Copy.Released { // else the store is in memory
		disk, err := byNumber(rec.Store.Device)
		if err != nil {
			return err
		}
		links["/run/systemd/volatile-root"] = disk
	}
	if rec.State.Kind != stage.StateNone {
		links[stage.RunDir+"/state"] = stage.StateMount
	}
	if rec.Upper.Kind == string(boot.UpperPersistent) {
		links["/run/overlayfs"] = rec.Upper.Mount + "/fs"
	}
	// What an /etc/fstab says of "/" is about a disk; the root is an overlay, which knows none of those options, and is as
	// read-only as ro made it.
	for _, unit := range []string{"systemd-remount-fs.service", "systemd-fsck-root.service"} {
		links["/run/systemd/system/"+unit] = os.DevNull
	}
	var errs []error
	for path, content := range links {
		errs = append(errs, os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(content, path))
	}
	return errors.Join(errs...)
}

// byNumber returns the name under which systemd's generators look for the disk behind a volatile root: /dev/block/MAJOR:MINOR.
func byNumber(device string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		return "", &fs.PathError{Op: "stat", Path: device, Err: err}
	}
	return fmt.Sprintf("/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)), nil
}

// writeRecord writes the record, the log and what logins show; /run is memory, so there is no power cut to outlive.
func writeRecord(rec *stage.Record, l *log) error {
	return errors.Join(announce(rec), os.WriteFile(stage.RecordPath, rec.Encode(), 0o644), os.WriteFile(stage.LogPath, []byte(l.kept.String()), 0o644))
}

// announce lets each login say what is less than was asked for.
func announce(rec *stage.Record) error {
	text := rec.Banner()
	if text == "" {
		return nil
	}
	var errs []error
	for _, path := range []string{stage.MotdPath, stage.IssuePath} {
		errs = append(errs, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
	}
	return errors.Join(errs...)
}
