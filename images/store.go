package images

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"veneer/boot"
)

// Names in a store.
const (
	imagesDir      = "images"
	deploymentsDir = "deployments"
	defaultName    = "default"
)

// Limits of what is read of a store: it may be full of anything.
const (
	maxDefault     = 64
	maxDeployments = 4096
)

// ImagePath is where an image lies in a store.
func ImagePath(id string) string { return path.Join(imagesDir, id+".img") }

// DeploymentPath is the directory of a deployment in a store.
func DeploymentPath(serial string) string { return path.Join(deploymentsDir, serial) }

// DefaultPath is the file that names the deployment which boots.
func DefaultPath() string { return defaultName }

// Deployments lists the serials of the deployments in a store, and the names beside them that are none. It looks at no more
// than a few thousand entries.
func Deployments(store fs.FS) (serials, junk []string, err error) {
	dir, err := store.Open(deploymentsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("deployments of the store: %w", err)
	}
	defer dir.Close()
	list, ok := dir.(fs.ReadDirFile)
	if !ok {
		return nil, nil, fmt.Errorf("deployments of the store: %q is not a directory", deploymentsDir)
	}
	entries, err := list.ReadDir(maxDeployments + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("deployments of the store: %w", err)
	}
	if len(entries) > maxDeployments {
		return nil, nil, fmt.Errorf("store holds more than %d entries in %s/: that is not what veneer leaves there; clean it up", maxDeployments, deploymentsDir)
	}
	for _, e := range entries {
		if boot.CheckSerial(e.Name()) == nil && e.IsDir() {
			serials = append(serials, e.Name())
		} else {
			junk = append(junk, e.Name())
		}
	}
	return serials, junk, nil
}

// Default reads which deployment boots.
func Default(store fs.FS) (string, error) {
	text, err := readLimited(store, defaultName, maxDefault)
	if err != nil {
		return "", err
	}
	serial := strings.TrimSuffix(string(text), "\n")
	return serial, boot.CheckSerial(serial)
}

// ReadDeployment reads the manifest of a deployment and its signature, neither of them checked. Both are limited in size, and
// nothing but a regular file is opened.
func ReadDeployment(store fs.FS, serial string) (manifest, signature []byte, err error) {
	manifest, err = readLimited(store, path.Join(DeploymentPath(serial), ManifestName), MaxManifest)
	if err != nil {
		return nil, nil, err
	}
	signature, err = readLimited(store, path.Join(DeploymentPath(serial), SignatureName), MaxSignature)
	return manifest, signature, err
}

func readLimited(store fs.FS, name string, limit int64) ([]byte, error) {
	info, err := fs.Stat(store, name) // before the open, which would wait for the writer of a fifo
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
	}
	f, err := store.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("larger than %d bytes", limit)}
	}
	return text, err
}
