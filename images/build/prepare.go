package build

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"

	"veneer/images"
	"veneer/images/disk"
	"veneer/initramfs"
)

// prepare looks for all that the build needs beside its sources, and reports together what is missing.
func (b *builder) prepare() error {
	c := b.spec.Config
	errs := []error{checkScratch(os.TempDir())}
	b.tools = map[string]string{}
	for _, name := range neededTools(c, os.Geteuid()) {
		path, err := findTool(name)
		b.tools[name] = path
		errs = append(errs, err)
	}
	if c.Keys.Secret != "" {
		signer, err := LoadSigner(c.Keys.Secret, b.spec.Passphrase)
		b.signer = signer
		errs = append(errs, err)
	}
	efi, err := efiSigner(c.Boot)
	b.efi = efi
	errs = append(errs, err)
	keys, err := trustedKeys(c, b.signer)
	b.keys = keys
	return errors.Join(append(errs, err)...)
}

// checkScratch reports that scratch files have no place before one of the many that need some is blamed for it.
func checkScratch(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a directory", dir)
	}
	if err != nil {
		return fmt.Errorf("directory for temporary files: %w; make it, or set TMPDIR to one that is there", err)
	}
	return nil
}

// neededTools lists the programs that it is certain a user will need.
func neededTools(c Config, uid int) []string {
	names := []string{initramfs.Compressor}
	if c.FileSystem.Type == Squashfs || c.Tools {
		names = append(names, "mksquashfs")
	}
	if c.FileSystem.Type == Erofs {
		names = append(names, "mkfs.erofs")
		if uid != 0 && c.hasArchive() {
			names = append(names, fakeryTools...)
		}
	}
	if c.has(OutputStore) || c.makesDisk() {
		names = append(names, "mke2fs", "debugfs")
	}
	if c.has(OutputQcow2) {
		names = append(names, "qemu-img")
	}
	if c.makesDisk() {
		names = append(names, "mkfs.fat", "mmd", "mcopy")
		if c.boots(FirmwareBIOS, cmp.Or(c.Architecture, "amd64")) {
			names = append(names, "syslinux")
		}
	}
	return names
}

// hasArchive reports whether a source is there and is not a directory.
func (c Config) hasArchive() bool {
	sources := []string{c.Source}
	for _, l := range c.Layers {
		sources = append(sources, l.Source)
	}
	return slices.ContainsFunc(sources, func(s string) bool {
		info, err := os.Stat(s)
		return err == nil && !info.IsDir()
	})
}

// efiSigner reads what signs for Secure Boot; nil where nothing does.
func efiSigner(c BootConfig) (*disk.Signer, error) {
	if c.Key == "" {
		return nil, nil
	}
	key, err := readSmall(c.Key, maxSecretKey)
	if err != nil {
		return nil, fmt.Errorf("boot.key: %w", err)
	}
	cert, err := readSmall(c.Cert, maxSecretKey)
	if err != nil {
		return nil, fmt.Errorf("boot.cert: %w", err)
	}
	s, err := disk.ParseSigner(key, cert)
	if err != nil {
		return nil, fmt.Errorf("boot.key %s, boot.cert %s: %w", c.Key, c.Cert, err)
	}
	return &s, nil
}

// trustedKeys reads the public keys for the initramfs. A key that signs and is not trusted would make a set that never boots.
func trustedKeys(c Config, signer *Signer) (map[string][]byte, error) {
	keys := map[string][]byte{}
	var errs []error
	trusted := false
	for _, path := range c.Keys.Trusted {
		text, err := readSmall(path, maxSecretKey)
		if err == nil {
			var key images.PublicKey
			key, err = images.ParsePublicKey(text)
			trusted = trusted || signer != nil && key == signer.Key()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("trusted key %s: %w", path, err))
			continue
		}
		keys[keyName(path)] = text
	}
	if len(errs) > 0 || signer == nil {
		return keys, errors.Join(errs...)
	}
	if len(c.Keys.Trusted) == 0 {
		return map[string][]byte{"veneer": signer.Public()}, nil
	}
	if !trusted {
		return nil, fmt.Errorf("keys.secret %s is key %s, which is none of keys.trusted: nothing that it signs would boot; add its public key there", c.Keys.Secret, signer.Key().ID)
	}
	return keys, nil
}
