package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"veneer/images"
	"veneer/images/verity"
)

// Verification is what a verification looked at and what it found. It is complete: a bad thing never hides the next one.
type Verification struct {
	Path     string   `json:"path"`
	Kind     Kind     `json:"kind"`
	Keys     []Key    `json:"keys"`
	KeysFrom string   `json:"keys-from"` // where the keys came from, for people
	Checks   []Check  `json:"checks"`
	Notes    []string `json:"notes"` // what was not checked, and why
}

// Check is one thing that was looked at.
type Check struct {
	What   string `json:"what"`
	Detail string `json:"detail"`          // what was proven
	Error  string `json:"error,omitempty"` // why it was not
	err    error
}

// VerifySpec says what Verify looks at.
type VerifySpec struct {
	Path     string
	Keys     []Key                   // trusted; nil for those that the initramfs beside the manifest trusts
	Certs    []string                // files (PEM), by one of which each UKI must be signed; none: signatures for Secure Boot are not looked at
	Progress func(done, total int64) // bytes; may be nil. The total grows as more is found to be read
}

// OK reports whether everything that was looked at is good, and something was.
func (v Verification) OK() bool { return len(v.Checks) > 0 && v.Err() == nil }

// Err joins what is wrong.
func (v Verification) Err() error {
	var errs []error
	for _, c := range v.Checks {
		if c.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.What, c.err))
		}
	}
	return errors.Join(errs...)
}

// Verify checks a build output, a store, a file system image or an ISO with a store in it, a manifest or an image:
//
//	output    signature, manifest, digests of kernel and initramfs, each block of each image,
//	          and that a UKI, a disk, an ISO and a store image hold just that
//	store     the default; for each deployment signature, manifest, each block of each image
//	          (the same for one that lies in an ext4 image, such as store.img: nothing is mounted)
//	ISO       the same, and that what firmware starts is the kernel and the initramfs of the manifest
//	manifest  signature, manifest
//	image     each block, against the ID in the file's name or else in its own hash tree
//	disk      its partition table, what the store holds, and that kernels and initramfs on its EFI system partition are of it;
//	          raw, qcow2, or compressed with zstd
//	uki       that its parts fit together
//
// The error tells that it could not begin, or was cut short; what it found is in the Verification.
func Verify(ctx context.Context, spec VerifySpec) (Verification, error) {
	kind, err := DetectKind(spec.Path)
	if err != nil {
		return Verification{}, err
	}
	v := verifier{Verification: Verification{Path: spec.Path, Kind: kind, Keys: []Key{}, Checks: []Check{}, Notes: []string{}}, spec: spec}
	switch kind {
	case KindOutput:
		err = v.output(ctx, spec.Path)
	case KindStore:
		err = v.store(ctx, directory(spec.Path))
	case KindFileSystem:
		err = v.fileSystem(ctx, spec.Path)
	case KindISO:
		err = v.isoAlone(ctx, spec.Path)
	case KindManifest:
		v.trust(filepath.Dir(spec.Path))
		_, _ = v.manifest("", directory(filepath.Dir(spec.Path)), filepath.Base(spec.Path))
		v.note("neither the kernel, the initramfs nor the images were read; name the directory to check them")
	case KindImage:
		err = v.imageAlone(ctx, spec.Path)
	case KindDisk:
		err = v.diskAlone(ctx, spec.Path)
	case KindUKI:
		err = v.ukiAlone(ctx, spec.Path)
	default:
		return Verification{}, unreadable(spec.Path, kind)
	}
	if err == nil && len(v.spec.Certs) > 0 && !v.signatures {
		v.add("signature for Secure Boot", "", errors.New("there is no UKI here that could be signed: leave --cert out, or name what has one"))
	}
	if err == nil {
		err = ctx.Err()
	}
	return v.Verification, err
}

type verifier struct {
	Verification
	spec        VerifySpec
	done, total int64 // bytes
	signatures  bool  // one of a UKI was looked at
}

func (v *verifier) add(what, detail string, err error) {
	c := Check{What: what, Detail: detail, err: err}
	if err != nil {
		c.Detail, c.Error = "", err.Error()
	}
	v.Checks = append(v.Checks, c)
}

func (v *verifier) note(text string) { v.Notes = append(v.Notes, text) }

// trust decides which keys count: those that were given, or those of the initramfs in dir.
func (v *verifier) trust(dir string) {
	if v.spec.Keys != nil {
		v.Keys, v.KeysFrom = v.spec.Keys, "given"
		return
	}
	path := filepath.Join(dir, initramfsFile)
	v.KeysFrom = "the initramfs " + path + "; this shows that the output fits together, not who made it: give --key to check that"
	f, size, err := openRegular(path)
	if err != nil {
		v.KeysFrom = "nowhere"
		v.add("trusted keys", "", fmt.Errorf("%w; give them with --key", err))
		return
	}
	defer f.Close()
	found, err := ReadInitramfs(f, size)
	v.Keys = found.Keys
	if err == nil && len(found.Keys) == 0 {
		err = errors.New("the initramfs trusts no key; give one with --key")
	}
	if err != nil {
		v.add("trusted keys", "", err)
	}
}

func (v *verifier) output(ctx context.Context, dir string) error {
	v.trust(dir)
	man, err := v.manifest("", directory(dir), images.ManifestName)
	if err != nil {
		return nil
	}
	v.total = man.Kernel.Size + man.Initramfs.Size
	for _, img := range man.Images {
		v.total += img.Verity.DataBlocks * verity.BlockSize
	}
	v.file(ctx, "kernel", filepath.Join(dir, man.Kernel.Name), man.Kernel.File)
	v.file(ctx, "initramfs", filepath.Join(dir, man.Initramfs.Name), man.Initramfs)
	for _, img := range man.Images {
		v.image(ctx, "", directory(dir), img)
	}
	if _, err := os.Lstat(filepath.Join(dir, storeImageFile)); err == nil {
		v.storeImage(ctx, dir, man)
	} else if !exists(filepath.Join(dir, outDisk)) && !exists(filepath.Join(dir, outISO)) {
		v.note("there is no " + storeImageFile + " to be compared with what was checked")
	}
	v.media(ctx, dir, man)
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// manifest checks a signature before it parses what was signed. The error says that there is no manifest to go on with.
func (v *verifier) manifest(prefix string, in place, name string) (images.Manifest, error) {
	text, err := readIn(in, name, images.MaxManifest)
	if err != nil {
		v.add(prefix+"manifest", "", err)
		return images.Manifest{}, err
	}
	detail, err := checkSignature(text, in, name+".minisig", v.Keys)
	v.add(prefix+"signature", detail, err)
	man, err := images.ParseManifest(text)
	if err != nil {
		err = fmt.Errorf("%s: %w", in.at(name), err)
	}
	v.add(prefix+"manifest", fmt.Sprintf("%s %s, epoch %d, %s, %s", man.Name, man.Version, man.Epoch, man.Architecture, count(int64(len(man.Images)), "image")), err)
	return man, err
}

func checkSignature(text []byte, in place, name string, keys []Key) (string, error) {
	raw, err := readIn(in, name, images.MaxSignature)
	if err != nil {
		return "", err
	}
	sig, err := images.ParseSignature(raw)
	if err != nil {
		return "", fmt.Errorf("%s: %w", in.at(name), err)
	}
	public := make([]images.PublicKey, len(keys))
	for i, k := range keys {
		public[i] = k.PublicKey
	}
	signer, err := images.Verify(text, sig, public...)
	if err != nil {
		return "", err
	}
	file := ""
	for _, k := range keys {
		if k.PublicKey == signer {
			file = " (" + k.Name + ")"
			break
		}
	}
	return fmt.Sprintf("key %s%s, %s", signer.ID, file, printable(sig.TrustedComment)), nil
}

// file checks the size and the digest of a file that the manifest names.
func (v *verifier) file(ctx context.Context, what, path string, want images.File) {
	v.add(what, fmt.Sprintf("%s, %s, sha256 %s", want.Name, FormatBytes(want.Size), want.SHA256), func() error {
		f, size, err := openRegular(path)
		if err != nil {
			v.advance(want.Size)
			return err
		}
		defer f.Close()
		if size != want.Size {
			v.advance(want.Size)
			return fmt.Errorf("%s has %s, the manifest says %d", path, count(size, "byte"), want.Size)
		}
		h := sha256.New()
		buf := make([]byte, 1<<20)
		for ctx.Err() == nil {
			n, err := f.Read(buf)
			h.Write(buf[:n])
			v.advance(int64(n))
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if got := hex.EncodeToString(h.Sum(nil)); got != want.SHA256 {
			return fmt.Errorf("%s has sha256 %s, the manifest says %s: it was changed after it was built", path, got, want.SHA256)
		}
		return nil
	}())
}

func (v *verifier) advance(n int64) {
	v.done += n
	if v.spec.Progress != nil {
		v.spec.Progress(v.done, max(v.total, v.done))
	}
}

func (v *verifier) progressFrom(start int64) func(done, total int64) {
	if v.spec.Progress == nil {
		return nil
	}
	return func(done, _ int64) { v.spec.Progress(start+done, max(v.total, start+done)) }
}

// openRegular opens a file or a disk to read it, and no fifo or terminal that would not end.
func openRegular(path string) (*os.File, int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	block := info.Mode().Type() == os.ModeDevice // without ModeCharDevice
	if !info.Mode().IsRegular() && !block {
		return nil, 0, fmt.Errorf("%s: neither a regular file nor a disk", path)
	}
	f, err := os.Open(path)
	if err != nil || !block {
		return f, info.Size(), err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}
