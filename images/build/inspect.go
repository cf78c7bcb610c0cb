package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"veneer/images"
	"veneer/initramfs"
)

// Inspection is what a file says of itself, unproven. One of the pointers is set, or for an output several.
type Inspection struct {
	Path      string           `json:"path"`
	Kind      Kind             `json:"kind"`
	Manifest  *images.Manifest `json:"manifest,omitempty"`
	Signature *SignatureFile   `json:"signature,omitempty"`
	Image     *ImageFile       `json:"image,omitempty"`
	Initramfs *Initramfs       `json:"initramfs,omitempty"`
	Kernel    *KernelFile      `json:"kernel,omitempty"`
	UKI       *UKIFile         `json:"uki,omitempty"`
	Disk      *DiskFile        `json:"disk,omitempty"`
	ISO       *ISOFile         `json:"iso,omitempty"`
}

// SignatureFile is what a signature says of itself.
type SignatureFile struct {
	KeyID   string `json:"key-id"`
	Comment string `json:"comment"`
}

// KernelFile is a kernel image.
type KernelFile struct {
	Architecture string `json:"architecture"`
	Release      string `json:"release"`
	Size         int64  `json:"size"`
	SHA256       string `json:"sha256"`
}

// Kind is a kind of file or directory that the command knows.
type Kind string

// The kinds. Neither a kernel nor an initramfs can be verified alone.
const (
	KindOutput     Kind = "output"
	KindStore      Kind = "store"
	KindFileSystem Kind = "filesystem" // with a store in it
	KindISO        Kind = "iso"        // with a store in it
	KindManifest   Kind = "manifest"
	KindImage      Kind = "image"
	KindInitramfs  Kind = "initramfs"
	KindKernel     Kind = "kernel"
	KindUKI        Kind = "uki"
	KindDisk       Kind = "disk"
)

// Names in a build output and in a file system that holds a store.
const (
	initramfsFile  = "initramfs.cpio.zst"
	storeImageFile = "store.img"
	storeDir       = "veneer"
)

// Inspect reads what path is, and what it says of itself, in bounded time and memory.
func Inspect(path string) (Inspection, error) {
	kind, err := DetectKind(path)
	if err != nil {
		return Inspection{}, err
	}
	i := Inspection{Path: path, Kind: kind}
	switch kind {
	case KindOutput:
		err = i.readManifest(filepath.Join(path, images.ManifestName))
		err = errors.Join(err, i.readFile(filepath.Join(path, initramfsFile), KindInitramfs))
	case KindManifest:
		err = i.readManifest(path)
	case KindImage, KindInitramfs, KindKernel, KindUKI:
		err = i.readFile(path, kind)
	case KindDisk:
		err = i.readDisk(path)
	case KindISO:
		err = i.readISO(path)
	case KindStore:
		err = fmt.Errorf("%s is a store; inspect a manifest or an image in it, or check all of it with veneer verify --key KEY %s", path, path)
	default:
		err = unreadable(path, kind)
	}
	return i, err
}

func (i *Inspection) readManifest(path string) error {
	man, err := readManifest(path)
	if err != nil {
		return err
	}
	i.Manifest = &man
	raw, err := readSmall(path+".minisig", images.MaxSignature)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	sig, err := images.ParseSignature(raw)
	if err != nil {
		return fmt.Errorf("%s.minisig: %w", path, err)
	}
	i.Signature = &SignatureFile{sig.KeyID.String(), sig.TrustedComment}
	return nil
}

func (i *Inspection) readFile(path string, kind Kind) error {
	f, size, err := openRegular(path)
	if err != nil {
		return err
	}
	defer f.Close()
	switch kind {
	case KindImage:
		img, rerr := ReadImage(f, size)
		i.Image, err = &img, rerr
	case KindInitramfs:
		found, rerr := ReadInitramfs(f, size)
		i.Initramfs, err = &found, rerr
	case KindUKI:
		err = i.readUKI(f)
	case KindKernel:
		k, rerr := readKernel(f, size)
		i.Kernel, err = &k, rerr
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func readKernel(f *os.File, size int64) (KernelFile, error) {
	h, err := initramfs.ReadHeader(f)
	if err != nil {
		return KernelFile{}, err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return KernelFile{}, err
	}
	return KernelFile{h.Arch, h.Release, size, hex.EncodeToString(sum.Sum(nil))}, nil
}

// DetectKind tells what path is by its content, never by its name.
func DetectKind(path string) (Kind, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%w; want a build output, a store, or one of their files", err)
	}
	if err != nil {
		return "", err
	}
	if info.IsDir() {
		if _, err := os.Stat(filepath.Join(path, images.ManifestName)); err == nil {
			return KindOutput, nil
		}
		if isStore(path) {
			return KindStore, nil
		}
		if isStore(filepath.Join(path, storeDir)) {
			return "", fmt.Errorf("%s holds a store: name %s", path, filepath.Join(path, storeDir))
		}
		return "", fmt.Errorf("%s is neither a build output (no %s in it) nor a store (no deployments in it)", path, images.ManifestName)
	}
	f, _, err := openRegular(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 4096)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", err
	}
	if n == 0 {
		return "", fmt.Errorf("%s is an empty file", path)
	}
	if isISO(f) { // a hybrid one has the table of a disk, too
		return KindISO, nil
	}
	if isUKI(head[:n]) {
		return KindUKI, nil
	}
	if bytes.HasPrefix(head[:n], []byte(qcow2Magic)) || isCompressedDisk(f, head[:n]) {
		return KindDisk, nil
	}
	if kind := detect(head[:n]); kind != "" {
		return kind, nil
	}
	if _, err := initramfs.ReadHeader(f); err == nil {
		return KindKernel, nil
	}
	if compression(head[:n]) != "" {
		return KindInitramfs, nil
	}
	return "", fmt.Errorf("%s is neither a manifest, an image, an ext4 file system with a store, a disk, an ISO, a UKI, an initramfs nor a kernel", path)
}

// detect tells a kind by the first bytes, as far as they suffice.
func detect(head []byte) Kind {
	at := func(offset int, magic string) bool {
		return len(head) >= offset+len(magic) && string(head[offset:offset+len(magic)]) == magic
	}
	switch {
	case bytes.HasPrefix(bytes.TrimSpace(head), []byte("{")):
		return KindManifest
	case at(0, "hsqs"), at(erofsOffset, "\xe2\xe1\xf5\xe0"):
		return KindImage
	case at(0, newcMagic), at(0, newcCRC):
		return KindInitramfs
	case at(512, "EFI PART"), at(510, "\x55\xaa") && at(446+4, "\xee"), len(head) >= 4096 && at(510, "\x55\xaa") && at(446+16+4, "\xee"):
		return KindDisk // behind a protective MBR, whatever became of the first header
	case at(1080, "\x53\xef"):
		return KindFileSystem
	}
	return ""
}

// unreadable says what can be done about a kind that is known and not read.
func unreadable(path string, kind Kind) error {
	switch kind {
	case KindFileSystem:
		return fmt.Errorf("%s is an ext4 file system: check the store in it with veneer verify --key KEY %s", path, path)
	}
	return fmt.Errorf("%s: %s, which only the manifest of its build vouches for: veneer verify OUTPUT", path, kind)
}
