package live

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"veneer/images/sha2"
	"veneer/stage"
)

// Where the initramfs keeps the digests of others' images that it may boot, one a line.
const (
	configDir = "/etc/veneer"
	pinsFile  = "pins"
)

// maxPins bounds the file, bytes.
const maxPins = 64 << 10

// errUnsigned is why a medium of others is refused.
var errUnsigned = errors.New("this medium carries no signature of ours, and this initramfs boots nothing unsigned: pin its images (pins = [\"sha256:...\"] in veneer.toml, as sha256sum prints them), or build with allow-unsigned = true")

// readPins returns the digests that the initramfs carries.
func readPins(m stage.Machine) (map[string]bool, error) {
	text, err := readSmall(m.Files(configDir), pinsFile, maxPins)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	pins := map[string]bool{}
	for _, line := range strings.Fields(string(text)) {
		pins[strings.TrimPrefix(line, "sha256:")] = true
	}
	return pins, err
}

// allowed decides whether the images of the medium may be booted.
//
//	pins          every image has to be one of them, allow-unsigned or not: all of it is read
//	none, but allow-unsigned   anything, and everybody is told
//	neither                    nothing
func (f *foreign) allowed(ctx context.Context, pins map[string]bool) error {
	switch {
	case f.env.Paper:
		f.r.Detailf("refuse it, unless the initramfs pins the SHA-256 of each image, which are read whole, or was built with allow-unsigned")
		return nil
	case len(pins) == 0 && !f.env.AllowUnsigned:
		return errUnsigned
	case len(pins) == 0:
		f.r.Degrade("unverified", "the medium carries no signature of ours: whoever wrote it decides what runs here (allow-unsigned)")
		return nil
	}
	var digests []string
	for _, name := range f.names {
		digest, err := f.digest(ctx, name)
		if err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
		if !pins[digest] {
			return fmt.Errorf("image %s has the SHA-256 %s, which this initramfs does not pin: it was changed, or belongs to another release", name, digest)
		}
		digests = append(digests, digest)
	}
	f.r.Record.Verified.Pinned = "sha256:" + strings.Join(digests, " sha256:")
	return nil
}

// digest reads all of an image, and tells each quarter of the way.
func (f *foreign) digest(ctx context.Context, name string) (string, error) {
	if !regular(f.files, name) {
		return "", errors.New("is not a regular file")
	}
	file, err := f.files.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	hash, buf := sha256.New(), make([]byte, 1<<20)
	for done, told := int64(0), int64(0); ; {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := file.Read(buf)
		hash.Write(buf[:n])
		done += int64(n)
		if quarter := 4 * done / max(info.Size(), 1); quarter > told && f.r.Log != nil {
			told = quarter
			f.r.Log(stage.Good, fmt.Sprintf("%s: %d%% of %d MiB checked", name, 25*quarter, info.Size()>>20))
		}
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(hash.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// sum is the ID of several images together.
func sum(ids string) string {
	digest := sha2.Sum256([]byte(ids))
	return hex.EncodeToString(slices.Clone(digest[:]))
}
