package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"veneer/images"
)

// storeImage checks that the store in a file system image holds, byte for byte, the set that lies beside it in dir and has
// been checked there. debugfs(8) takes the files out, so that nothing has to be mounted.
func (v *verifier) storeImage(ctx context.Context, dir string, man images.Manifest) {
	image := filepath.Join(dir, storeImageFile)
	if err := isExt4(image); err != nil {
		v.add(storeImageFile, "", err)
		return
	}
	v.storeIn(ctx, storeImageFile, image, dir, man)
}

// storeIn is storeImage for a file system that the e2fsprogs find under a name, such as FILE?offset=BYTES.
func (v *verifier) storeIn(ctx context.Context, what, image, dir string, man images.Manifest) {
	debugfs, err := findTool("debugfs")
	if err != nil {
		v.add(what, "", err)
		return
	}
	const serial = "1"
	pairs := [][2]string{
		{path.Join(images.DeploymentPath(serial), images.ManifestName), images.ManifestName},
		{path.Join(images.DeploymentPath(serial), images.SignatureName), images.SignatureName},
	}
	for _, img := range man.Images {
		pairs = append(pairs, [2]string{images.ImagePath(img.ID), images.ImagePath(img.ID)})
	}
	v.fsck(ctx, image, what+" as ext4")
	var errs []error
	for _, p := range pairs {
		if err := sameInImage(ctx, debugfs, image, path.Join(storeDir, p[0]), filepath.Join(dir, p[1])); err != nil {
			errs = append(errs, err)
		}
	}
	v.add(what, fmt.Sprintf("%d files are those of the output", len(pairs)), errors.Join(errs...))
}

// isExt4 reports why a file is not the ext4 file system that a store image has to be.
func isExt4(image string) error {
	kind, err := DetectKind(image)
	if err == nil && kind == KindFileSystem {
		return nil
	}
	was := "it is " + string(kind)
	if err != nil {
		was = err.Error()
	}
	return fmt.Errorf("want an ext4 file system with the store in it, and %s: build again, or copy it again", was)
}

// sameInImage compares a file in an ext4 image with a file beside it, while debugfs writes the one out.
func sameInImage(ctx context.Context, debugfs, image, inside, beside string) error {
	want, err := os.Open(beside)
	if errors.Is(err, os.ErrNotExist) && strings.HasSuffix(inside, images.SignatureName) {
		return nil // a set that nobody signed
	}
	if err != nil {
		return err
	}
	defer want.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, debugfs, "-R", "cat /"+inside, image)
	cmd.Env = []string{"LC_ALL=C", "DEBUGFS_PAGER=cat"}
	said := &tail{limit: maxMessages}
	cmd.Stderr = said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	at, same, err := compare(out, want)
	if !same {
		cancel() // it may have much more to say
	}
	werr := cmd.Wait()
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", inside, err)
	case strings.Contains(said.buf.String(), "File not found by ext2_lookup"):
		return fmt.Errorf("%s is not in it: build again, or copy the store again", inside)
	case !same:
		return fmt.Errorf("%s differs from %s at byte %d: build again, or copy the store again", inside, filepath.Base(beside), at)
	}
	return werr
}

// compare reads both to their ends and tells where they part.
func compare(a, b io.Reader) (at int64, same bool, err error) {
	left, right := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		n, err := io.ReadFull(a, left)
		m, rerr := io.ReadFull(b, right)
		if !bytes.Equal(left[:n], right[:m]) {
			for i := range min(n, m) {
				if left[i] != right[i] {
					return at + int64(i), false, nil
				}
			}
			return at + int64(min(n, m)), false, nil
		}
		at += int64(n)
		for _, e := range []error{err, rerr} {
			if e != nil && !errors.Is(e, io.EOF) && !errors.Is(e, io.ErrUnexpectedEOF) {
				return at, false, e
			}
		}
		if err != nil {
			return at, true, nil
		}
	}
}
