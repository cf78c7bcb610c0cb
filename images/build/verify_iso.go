package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"veneer/images"
	"veneer/initramfs/machine/probe"
)

// isoPartition is the name that xorriso gives the EFI system partition.
const isoPartition = "Appended2"

// isoInitrd is where a BIOS finds the initramfs.
const isoInitrd = "boot/initrd"

// isoAlone checks an ISO by itself: the store in it, and that what firmware starts is what its manifest names. The keys are those that
// were given, of the initramfs beside it in a build output, or of the one in it.
func (v *verifier) isoAlone(ctx context.Context, file string) error {
	in, err := openISO(ctx, file)
	if err != nil {
		return err
	}
	defer in.f.Close()
	in.dir = storeDir
	if _, err := in.Stat(path.Dir(images.DeploymentPath("1"))); err != nil {
		return fmt.Errorf("%s is an ISO without a store: there is no directory /%s/%s in it", file, storeDir, path.Dir(images.DeploymentPath("1")))
	}
	if v.spec.Keys == nil && !exists(filepath.Join(filepath.Dir(file), initramfsFile)) {
		v.trustISO(ctx, in)
	} else {
		v.trust(filepath.Dir(file))
	}
	if err := v.deployments(ctx, in); err != nil {
		return err
	}
	man, err := manifestIn(in)
	if err != nil {
		return nil // it was reported as one of the deployments
	}
	v.Notes = v.Notes[:len(v.Notes)-1] // that kernel and initramfs lie elsewhere: here they do not
	v.isoBoots(ctx, filepath.Base(file), in, man)
	return nil
}

// trustISO trusts the keys of the initramfs in an ISO.
func (v *verifier) trustISO(ctx context.Context, in *iso) {
	v.KeysFrom = "the initramfs on the ISO; this shows that the ISO fits together, not who made it: give --key to check that"
	root := *in
	root.dir = "."
	archive, err := readIn(&root, isoInitrd, maxUKI)
	if errors.Is(err, fs.ErrNotExist) {
		var program []byte
		if program, err = ukiOfISO(ctx, in.f.Name()); err == nil && program == nil {
			err = errors.New("the ISO has no initramfs; give a key with --key")
		}
		if err == nil {
			archive, err = sectionOf(program, ".initrd")
		}
	}
	if err == nil {
		v.Keys, err = keysOf(archive)
	}
	if err != nil {
		v.add("trusted keys", "", err)
	}
}

// manifestIn reads the manifest of the default deployment.
func manifestIn(in place) (images.Manifest, error) {
	serial, err := images.Default(in)
	if err != nil {
		return images.Manifest{}, err
	}
	text, err := readIn(in, path.Join(images.DeploymentPath(serial), images.ManifestName), images.MaxManifest)
	if err != nil {
		return images.Manifest{}, err
	}
	return images.ParseManifest(text)
}

// iso checks that the ISO in an output holds the set that lies beside it and has been checked there.
func (v *verifier) iso(ctx context.Context, dir string, man images.Manifest) {
	in, err := openISO(ctx, filepath.Join(dir, outISO))
	if err != nil {
		v.add(outISO, "", err)
		return
	}
	defer in.f.Close()
	in.dir = storeDir
	pairs := placedFiles(man, true)
	var errs []error
	for _, p := range pairs {
		if p.from == defaultFile {
			continue // staged only
		}
		errs = append(errs, sameInISO(in, strings.TrimPrefix(p.name, storeDir+"/"), filepath.Join(dir, p.from)))
	}
	v.add(outISO+", store", fmt.Sprintf("%d files are those of the output", len(pairs)-1), errors.Join(errs...))
	v.isoBoots(ctx, outISO, in, man)
}

// sameInISO compares a file in the store with a file beside the ISO.
func sameInISO(in *iso, inside, beside string) error {
	want, err := os.Open(beside)
	if errors.Is(err, os.ErrNotExist) && strings.HasSuffix(inside, images.SignatureName) {
		return nil // a set that nobody signed
	}
	if err != nil {
		return err
	}
	defer want.Close()
	got, err := in.Open(inside)
	if err != nil {
		return fmt.Errorf("%w: build again, or copy it again", err)
	}
	at, same, err := compare(got, want)
	if err == nil && !same {
		err = fmt.Errorf("it differs from %s at byte %d: build again, or copy it again", filepath.Base(beside), at)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", inside, err)
	}
	return nil
}

// isoBoots compares what firmware starts with the manifest: for a BIOS kernel and initramfs in the ISO, for UEFI what is on the EFI
// system partition.
func (v *verifier) isoBoots(ctx context.Context, what string, in *iso, man images.Manifest) {
	root := *in
	root.dir = "."
	found := 0
	for name, want := range map[string]images.File{"boot/" + outKernel: man.Kernel.File, isoInitrd: man.Initramfs} {
		f, err := root.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		found++
		var content bytes.Buffer
		if err == nil {
			_, err = io.Copy(&content, f)
		}
		if err == nil {
			err = contentIs(content.Bytes(), want)
		}
		if err != nil {
			err = fmt.Errorf("%w: build again, or copy it again", err)
		}
		v.add(what+", "+name, want.Name+" of the manifest", err)
	}
	if esp, ok, err := espOfISO(in.f.Name()); err != nil {
		v.add(what+", partitions", "", fmt.Errorf("%w: build again, or copy it again", err))
	} else if ok {
		detail, err := v.espFits(ctx, what+", "+espName, diskImage{path: in.f.Name(), esp: esp}, man)
		v.add(what+", EFI system partition", detail, err)
		found++
	}
	if found == 0 {
		v.add(what, "", errors.New("there is nothing in it that firmware could start"))
	}
}

// espOfISO finds the EFI system partition; an ISO for a BIOS alone has none.
func espOfISO(image string) (esp probe.Partition, ok bool, err error) {
	f, size, err := openRegular(image)
	if err != nil {
		return esp, false, err
	}
	defer f.Close()
	parts, err := probe.Partitions(f, size, 512)
	if err != nil {
		return esp, false, err
	}
	for _, p := range parts {
		if p.Name == isoPartition {
			return p, true, nil
		}
	}
	return esp, false, nil
}
