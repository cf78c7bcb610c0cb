package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"veneer/images"
)

// media checks that what firmware boots, as far as it lies in an output, holds kernel, initramfs and store of the manifest.
func (v *verifier) media(ctx context.Context, dir string, man images.Manifest) {
	v.uki(ctx, outUKI, filepath.Join(dir, outUKI), man)
	for _, name := range []string{outDisk, outQcow2, outZstd} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			v.disk(ctx, dir, name, man)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, outISO)); err == nil {
		v.iso(ctx, dir, man)
	}
	if exists(filepath.Join(dir, outNetboot)) {
		v.netboot(ctx, dir, man)
	}
}

// ukiFits compares the parts of a UKI with what the manifest says of them.
func ukiFits(program []byte, man images.Manifest) error {
	u, err := readUKI(bytes.NewReader(program))
	if err != nil {
		return err
	}
	return u.fits(man)
}

func (u UKIFile) fits(man images.Manifest) error {
	var errs []error
	if u.Architecture != man.Architecture {
		errs = append(errs, fmt.Errorf("it is for %s, and the manifest for %s", u.Architecture, man.Architecture))
	}
	for name, want := range map[string]images.File{".linux": man.Kernel.File, ".initrd": man.Initramfs} {
		s, err := u.section(name)
		if err == nil && (s.Size != want.Size || s.SHA256 != want.SHA256) {
			err = fmt.Errorf("section %s has sha256 %s, the manifest says %s of %s: build again, or copy it again", name, s.SHA256, want.SHA256, want.Name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// signedBy checks a UKI against the certificates that were given, one of which is enough (sbverify(1)).
func (v *verifier) signedBy(ctx context.Context, what string, program []byte) {
	if len(v.spec.Certs) == 0 {
		return
	}
	v.signatures = true
	by, err := sbverify(ctx, program, v.spec.Certs)
	v.add(what+", signature", "for Secure Boot, by "+by, err)
}

func sbverify(ctx context.Context, program []byte, certs []string) (by string, err error) {
	tool, err := findTool("sbverify")
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "veneer-uki-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, outUKI)
	if err := os.WriteFile(file, program, 0o600); err != nil {
		return "", err
	}
	var errs []error
	for _, cert := range certs {
		said, err := exec.CommandContext(ctx, tool, "--cert", cert, file).CombinedOutput()
		if err == nil {
			return cert, nil
		}
		errs = append(errs, fmt.Errorf("sbverify --cert %s: %w: %s", cert, err, strings.Join(strings.Fields(string(said)), " ")))
	}
	return "", errors.Join(errs...)
}

// disk looks into the partitions of a disk of an output, none of which has to be mounted.
func (v *verifier) disk(ctx context.Context, dir, name string, man images.Manifest) {
	bad := func(err error) { v.add(name, "", fmt.Errorf("%w: build again, or copy it again", err)) }
	image, done, err := rawDisk(ctx, filepath.Join(dir, name))
	if err != nil {
		bad(err)
		return
	}
	defer done()
	d, err := openDisk(image)
	if err != nil {
		bad(err)
		return
	}
	detail, err := v.espFits(ctx, name+", "+espName, d, man)
	v.add(name+", "+espName, detail, err)
	v.storeIn(ctx, name+", "+storeName, at(image, d.store.Start), dir, man)
}

// espFits compares each kernel and initramfs on the EFI system partition, in a UKI or beside a boot loader for a BIOS, with the one set
// or with one of several.
func (v *verifier) espFits(ctx context.Context, what string, d diskImage, sets ...images.Manifest) (string, error) {
	found := 0
	var errs []error
	err := d.eachOnESP(ctx, func(name string, content []byte) error {
		var of func(images.Manifest) error
		lower := strings.ToLower(name)
		switch {
		case strings.HasSuffix(lower, ".efi") && isUKI(content[:min(len(content), 4096)]):
			of = func(man images.Manifest) error { return ukiFits(content, man) }
			v.signedBy(ctx, what+", "+name, content)
		case strings.HasPrefix(lower, "/"+biosDir+"/") && strings.HasSuffix(lower, "/"+outKernel):
			of = func(man images.Manifest) error { return contentIs(content, man.Kernel.File) }
		case strings.HasPrefix(lower, "/"+biosDir+"/") && strings.HasSuffix(lower, "/"+outInitramfs):
			of = func(man images.Manifest) error { return contentIs(content, man.Initramfs) }
		default:
			return nil // a menu, a boot loader, settings
		}
		found++
		var no error
		for _, man := range sets {
			if no = of(man); no == nil {
				return nil
			}
		}
		if len(sets) > 1 {
			no = errors.New("it is that of none of the deployments")
		}
		errs = append(errs, fmt.Errorf("%s: %w", name, no))
		return nil
	})
	if err != nil {
		return "", err
	}
	if found == 0 {
		errs = append(errs, errors.New("nothing of the set lies on it"))
	}
	return fmt.Sprintf("%s of the manifest's kernel and initramfs", count(int64(found), "file")), errors.Join(errs...)
}

func contentIs(content []byte, want images.File) error {
	sum := sha256.Sum256(content)
	if got := hex.EncodeToString(sum[:]); got != want.SHA256 {
		return fmt.Errorf("it has sha256 %s, the manifest says %s", got, want.SHA256)
	}
	return nil
}
