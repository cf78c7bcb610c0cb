package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"veneer/stage"
)

// handOver leaves in /run what the running system will look for: the names that installers and systemd's tools know, and
// this program as the exitrd.
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
	return errors.Join(append(errs, copyFile("/init", "/run/initramfs/shutdown"))...)
}

// copyFile copies through a buffer: copy_file_range(2), which io.Copy would use, goes page by page through a pipe between two
// file systems in memory and takes ten times as long.
func copyFile(from, to string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	buf := make([]byte, 256<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// writeRecord writes the record and the log; /run is memory, so there is no power cut to outlive.
func writeRecord(rec *stage.Record, l *log) error {
	return errors.Join(os.WriteFile(stage.RecordPath, rec.Encode(), 0o644), os.WriteFile(stage.LogPath, []byte(l.kept.String()), 0o644))
}
