package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"veneer/images"
	"veneer/initramfs"
)

// diskAlone checks a disk without the output that it is of.
func (v *verifier) diskAlone(ctx context.Context, path string) error {
	raw, done, err := rawDisk(ctx, path)
	if err != nil {
		return err
	}
	defer done()
	d, err := openDisk(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if d.table.FirstDamaged() {
		err = errors.New("the first copy is damaged, and the backup counts: sfdisk --verify shows it, and what writes the table anew mends it, such as gdisk's w")
	}
	v.add("partition table", fmt.Sprintf("%s in sectors of %d", count(int64(len(d.table.Entries())), "partition"), d.sector), err)
	v.trustDisk(ctx, d)
	in, err := openExt4(ctx, raw, d.store.Start)
	if err != nil {
		return err
	}
	defer in.f.Close()
	if err := in.enterStore(); err != nil {
		return err
	}
	v.fsck(ctx, at(raw, d.store.Start), storeName+" as ext4")
	if err := v.deployments(ctx, in); err != nil {
		return err
	}
	v.Notes = v.Notes[:len(v.Notes)-1] // that kernel and initramfs lie elsewhere: here they do not
	var sets []images.Manifest
	serials, _, err := images.Deployments(in)
	if err != nil {
		return err
	}
	for _, serial := range serials {
		text, _, err := images.ReadDeployment(in, serial)
		if err != nil {
			continue // was told
		}
		if man, err := images.ParseManifest(text); err == nil {
			sets = append(sets, man)
		}
	}
	if len(sets) == 0 {
		return nil
	}
	detail, err := v.espFits(ctx, espName, d, sets...)
	v.add(espName, detail, err)
	return nil
}

// trustDisk decides which keys count: those that were given, or those of the initramfs that the disk starts.
func (v *verifier) trustDisk(ctx context.Context, d diskImage) {
	if v.spec.Keys != nil {
		v.Keys, v.KeysFrom = v.spec.Keys, "given"
		return
	}
	v.KeysFrom = "the initramfs on the disk; this shows that the disk fits together, not who made it: give --key to check that"
	var found []byte
	err := d.eachOnESP(ctx, func(name string, content []byte) error {
		switch {
		case found != nil:
		case isUKI(content[:min(len(content), 4096)]):
			var err error
			found, err = sectionOf(content, ".initrd")
			return err
		case filepath.Base(name) == outInitramfs:
			found = content
		}
		return nil
	})
	if err == nil && found == nil {
		err = errors.New("the disk has no initramfs; give a key with --key")
	}
	if err == nil {
		v.Keys, err = keysOf(found)
	}
	if err != nil {
		v.add("trusted keys", "", err)
	}
}

// keysOf are those that an initramfs trusts.
func keysOf(archive []byte) ([]Key, error) {
	i, err := ReadInitramfs(bytes.NewReader(archive), int64(len(archive)))
	if err == nil && len(i.Keys) == 0 {
		err = errors.New("the initramfs trusts no key; give one with --key")
	}
	return i.Keys, err
}

// ukiAlone checks that the parts of a UKI fit together.
func (v *verifier) ukiAlone(ctx context.Context, path string) error {
	program, err := readSmall(path, maxUKI)
	if err != nil {
		return err
	}
	u, err := readUKI(bytes.NewReader(program))
	if err != nil {
		v.add("program", "", err)
		return nil
	}
	v.add("program", fmt.Sprintf("for %s, %s", u.Architecture, count(int64(len(u.Sections)), "section")), nil)
	kernel, err := sectionOf(program, ".linux")
	var h initramfs.Header
	if err == nil {
		h, err = initramfs.ReadHeader(bytes.NewReader(kernel))
	}
	if err == nil && (h.Release != u.Release || h.Arch != u.Architecture) {
		err = fmt.Errorf("it is %s for %s, and the UKI says %s for %s", h.Release, h.Arch, u.Release, u.Architecture)
	}
	v.add("kernel", printable(h.Release), err)
	archive, err := sectionOf(program, ".initrd")
	var i Initramfs
	if err == nil {
		i, err = ReadInitramfs(bytes.NewReader(archive), int64(len(archive)))
	}
	if err == nil && i.Release != "" && i.Release != u.Release {
		err = fmt.Errorf("it was built for the kernel %s, and this one is %s", i.Release, u.Release)
	}
	v.add("initramfs", fmt.Sprintf("%s, trusts %s", count(int64(i.Entries), "entry"), count(int64(len(i.Keys)), "key")), err)
	v.signedBy(ctx, filepath.Base(path), program)
	if len(v.spec.Certs) == 0 && u.Signed {
		v.note("its signature was not checked: give --cert")
	}
	v.note("which set it is of the manifest tells: veneer verify OUTPUT")
	return nil
}
