package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

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

// copyFile copies a file in memory with one write from a mapping of it. copy_file_range(2), which io.Copy would use, goes page by
// page through a pipe between two file systems and takes ten times as long; a buffer would copy each byte twice.
func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	content, err := unix.Mmap(int(src.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		return &fs.PathError{Op: "map", Path: from, Err: err}
	}
	return errors.Join(os.WriteFile(to, content, 0o755), unix.Munmap(content))
}

// writeRecord writes the record and the log; /run is memory, so there is no power cut to outlive.
func writeRecord(rec *stage.Record, l *log) error {
	return errors.Join(os.WriteFile(stage.RecordPath, rec.Encode(), 0o644), os.WriteFile(stage.LogPath, []byte(l.kept.String()), 0o644))
}
