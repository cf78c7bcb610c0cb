package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"veneer/images"
)

// netboot checks that the directory for a server in an output holds the set that lies beside it and has been checked there.
func (v *verifier) netboot(ctx context.Context, dir string, man images.Manifest) {
	in := filepath.Join(dir, outNetboot)
	pairs := placedFiles(man, true)
	var errs []error
	for _, p := range pairs {
		name := strings.TrimPrefix(p.name, storeDir+"/")
		if p.from == defaultFile { // staged only
			serial, err := images.Default(os.DirFS(in))
			if err == nil && serial != firstSerial {
				err = fmt.Errorf("it names deployment %s, and the only one is %s", serial, firstSerial)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w: build again, or copy it again", name, err))
			}
			continue
		}
		errs = append(errs, sameFile(filepath.Join(in, name), filepath.Join(dir, p.from)))
	}
	v.add(outNetboot+", store", fmt.Sprintf("%d files are those of the output", len(pairs)), errors.Join(errs...))
	v.served(ctx, outNetboot+", ", in, man)
}

// served checks what firmware and iPXE fetch from a directory for a server.
func (v *verifier) served(ctx context.Context, prefix, dir string, man images.Manifest) {
	v.file(ctx, prefix+outKernel, filepath.Join(dir, outKernel), man.Kernel.File)
	v.file(ctx, prefix+outInitramfs, filepath.Join(dir, outInitramfs), man.Initramfs)
	v.uki(ctx, prefix+outUKI, filepath.Join(dir, outUKI), man)
}

// uki checks a UKI where there is one.
func (v *verifier) uki(ctx context.Context, what, path string, man images.Manifest) {
	program, err := readSmall(path, maxUKI)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err == nil {
		err = ukiFits(program, man)
	}
	v.add(what, "kernel and initramfs are those of the manifest", err)
	if program != nil {
		v.signedBy(ctx, what, program)
	}
}

// isServed reports whether a store is one for a server, with kernel and initramfs.
func isServed(dir string) bool {
	return exists(filepath.Join(dir, scriptFile)) || exists(filepath.Join(dir, outKernel)) || exists(filepath.Join(dir, outUKI))
}

// sameFile compares a copy, or another name, of a file.
func sameFile(copied, original string) error {
	want, size, err := openRegular(original)
	if errors.Is(err, os.ErrNotExist) && strings.HasSuffix(copied, images.SignatureName) {
		return nil // a set that nobody signed
	}
	if err != nil {
		return err
	}
	defer want.Close()
	got, have, err := openRegular(copied)
	if err != nil {
		return fmt.Errorf("%w: build again, or copy it again", err)
	}
	defer got.Close()
	a, aerr := want.Stat()
	b, berr := got.Stat()
	if err := errors.Join(aerr, berr); err != nil || os.SameFile(a, b) {
		return err
	}
	at, same, err := compare(got, want)
	if err == nil && (!same || have != size) {
		err = fmt.Errorf("%s differs from %s at byte %d: build again, or copy it again", copied, filepath.Base(original), at)
	}
	return err
}
