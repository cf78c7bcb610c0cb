package main

import (
	"errors"
	"os"
	"path/filepath"

	"veneer/stage"
)

// handOver leaves in /run the names that installers and systemd's tools look up.
func handOver(rec *stage.Record) error {
	links := map[string]string{
		stage.RunDir + "/store":      stage.StoreDir,
		stage.RunDir + "/base":       stage.BaseDir,
		stage.RunDir + "/layers":     stage.LayersDir,
		stage.RunDir + "/upper":      stage.UpperDir,
		"/run/rootfsbase":            stage.BaseDir,
		"/run/overlayfs":             stage.UpperDir + "/upper",
		"/run/initramfs/live":        stage.StoreDir,
		"/run/systemd/volatile-root": rec.Store.Device,
	}
	var errs []error
	for path, content := range links {
		errs = append(errs, os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(content, path))
	}
	return errors.Join(errs...)
}

// writeRecord writes the record and the log; /run is memory, so there is no power cut to outlive.
func writeRecord(rec *stage.Record, l *log) error {
	return errors.Join(os.WriteFile(stage.RecordPath, rec.Encode(), 0o644), os.WriteFile(stage.LogPath, []byte(l.kept.String()), 0o644))
}
