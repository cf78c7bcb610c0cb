package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"veneer/images"
	"veneer/initramfs/machine/probe"
)

// media checks that what firmware boots, as far as it lies in an output, holds kernel, initramfs and store of the manifest.
func (v *verifier) media(ctx context.Context, dir string, man images.Manifest) {
	if f, _, err := openRegular(filepath.Join(dir, outUKI)); err == nil {
		v.add(outUKI, "kernel and initramfs are those of the manifest", errors.Join(ukiFits(f, man), f.Close()))
	} else if !errors.Is(err, os.ErrNotExist) {
		v.add(outUKI, "", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, outDisk)); err == nil {
		v.disk(ctx, dir, man)
	}
	if _, err := os.Lstat(filepath.Join(dir, outISO)); err == nil {
		v.iso(ctx, dir, man)
	}
}

// ukiFits compares the parts of a UKI with what the manifest says of them.
func ukiFits(r io.Reader, man images.Manifest) error {
	u, err := readUKI(r)
	if err != nil {
		return err
	}
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

// disk looks into the partitions of a disk, none of which has to be mounted.
func (v *verifier) disk(ctx context.Context, dir string, man images.Manifest) {
	image := filepath.Join(dir, outDisk)
	esp, store, err := partsOfDisk(image)
	if err != nil {
		v.add(outDisk, "", fmt.Errorf("%w: build again, or copy it again", err))
		return
	}
	detail, err := v.espFits(ctx, image, esp, man)
	v.add(outDisk+", "+espName, detail, err)
	v.storeIn(ctx, outDisk+", "+storeName, fmt.Sprintf("%s?offset=%d", image, store.Start), dir, man)
}

func partsOfDisk(image string) (esp, store probe.Partition, err error) {
	f, size, err := openRegular(image)
	if err != nil {
		return esp, store, err
	}
	defer f.Close()
	g, err := probe.ReadGPT(f, size, 512)
	if err != nil {
		return esp, store, err
	}
	for name, p := range map[string]*probe.Partition{espName: &esp, storeName: &store} {
		found, _, ok, err := g.Find(name)
		if err == nil && !ok {
			err = fmt.Errorf("no partition is called %s", name)
		}
		if err != nil {
			return esp, store, err
		}
		*p = found
	}
	return esp, store, nil
}

// espFits compares each kernel and initramfs on the EFI system partition, in a UKI or beside a boot loader for a BIOS.
func (v *verifier) espFits(ctx context.Context, image string, esp probe.Partition, man images.Manifest) (string, error) {
	at := fmt.Sprintf("%s@@%d", image, esp.Start)
	var list strings.Builder
	if err := mtools(ctx, &list, "mdir", "-i", at, "-a", "-b", "-/", "::"); err != nil {
		return "", err
	}
	found := 0
	var errs []error
	for _, name := range strings.Fields(list.String()) {
		path := strings.ToLower(strings.TrimPrefix(name, "::/"))
		want := map[string]images.File{"veneer/" + outKernel: man.Kernel.File, "veneer/" + outInitramfs: man.Initramfs}[path]
		if !strings.HasSuffix(path, ".efi") && want.Name == "" {
			continue
		}
		var content strings.Builder
		if err := mtools(ctx, &content, "mcopy", "-n", "-i", at, name, "-"); err != nil {
			errs = append(errs, err)
			continue
		}
		var err error
		switch text := content.String(); {
		case want.Name != "":
			if got := sha256Of(text); got != want.SHA256 {
				err = fmt.Errorf("it has sha256 %s, the manifest says %s", got, want.SHA256)
			}
		case !isUKI([]byte(text[:min(len(text), 4096)])):
			continue // a menu
		default:
			err = ukiFits(strings.NewReader(text), man)
		}
		if found++; err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	if found == 0 {
		errs = append(errs, errors.New("nothing of the set lies on it"))
	}
	return fmt.Sprintf("%s of the manifest's kernel and initramfs", count(int64(found), "file")), errors.Join(errs...)
}

func sha256Of(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func mtools(ctx context.Context, w io.Writer, name string, args ...string) error {
	tool, err := findTool(name)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, tool, args...)
	said := &tail{limit: maxMessages}
	cmd.Env, cmd.Stdout, cmd.Stderr = []string{"LC_ALL=C", "TZ=UTC", "MTOOLSRC=/dev/null", "MTOOLS_SKIP_CHECK=1"}, w, said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(said.buf.String()))
	}
	return nil
}
