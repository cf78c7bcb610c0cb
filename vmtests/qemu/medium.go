package qemu

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Medium is something that can be booted: the output of a build, or a disk file. The guest never writes to it; what it
// writes goes to an overlay, the state, which lies in the directory .run beside the medium and is kept between runs.
type Medium struct {
	VM    VM     // boots the medium with the state as its first disk
	Base  string // the disk below the state
	kind  string // its format
	State string // the overlay; made by Claim
}

// Names of the files of a build output.
const (
	manifestFile  = "manifest.json"
	kernelFile    = "vmlinuz"
	initramfsFile = "initramfs.cpio.zst"
	storeFile     = "store.img"
	diskFile      = "disk.img"
	qcow2File     = "disk.qcow2"
	stateDir      = ".run"
)

// maxManifest bounds what is read of a manifest; a real one has a few kilobytes.
const maxManifest = 1 << 20

// OpenMedium looks at path, a directory that `veneer build` has written or a disk file. arch, Go's name, is for a disk file
// only: an output names its own. Nothing is written.
func OpenMedium(path, arch string) (Medium, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Medium{}, fmt.Errorf("open medium: %w: run 'veneer build' first, or name what it wrote", err)
	}
	if err != nil {
		return Medium{}, fmt.Errorf("open medium: %w", err)
	}
	if info.IsDir() {
		return openOutput(path)
	}
	return openDisk(path, arch, info)
}

// OpenDisk looks at path, a disk file or a directory that `veneer build` has written one to, to boot it from its firmware.
func OpenDisk(path, arch string) (Medium, error) {
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		dir := path
		for _, name := range []string{diskFile, qcow2File} {
			path = filepath.Join(dir, name)
			if info, err = os.Stat(path); err == nil {
				break
			}
		}
		if err != nil {
			return Medium{}, fmt.Errorf("open medium: %s has neither %s nor %s: name the output \"disk\" or \"disk.qcow2\" in veneer.toml and run veneer build: %w", dir, diskFile, qcow2File, fs.ErrNotExist)
		}
		if arch == "" {
			arch = archOf(dir)
		}
	}
	if err != nil {
		return Medium{}, fmt.Errorf("open medium: %w", err)
	}
	return openDisk(path, arch, info)
}

// archOf is the architecture of a build output; empty where it tells none.
func archOf(dir string) string {
	var named struct {
		Architecture string `json:"architecture"`
	}
	manifest, err := readManifest(filepath.Join(dir, manifestFile))
	if err != nil || json.Unmarshal(manifest, &named) != nil {
		return ""
	}
	return named.Architecture
}

func openDisk(path, arch string, info fs.FileInfo) (Medium, error) {
	head, err := readHead(path)
	if err != nil {
		return Medium{}, fmt.Errorf("open medium: %w", err)
	}
	format, err := head.format()
	if err == nil && format == formatRaw {
		err = head.checkBoot()
	}
	if err != nil {
		return Medium{}, fmt.Errorf("open medium: %w", err)
	}
	// A disk is too large to be read for its key at every run.
	key := fmt.Sprintf("%s %d %d", filepath.Base(path), info.Size(), info.ModTime().UnixNano())
	m := newMedium(VM{Arch: orDefault(arch, runtime.GOARCH)}, path, []byte(key))
	m.kind, m.VM.Disks[0].Sector = format, head.sector()
	return m, nil
}

// openOutput makes the state depend on the manifest, which names every image in the store: after another build the old
// state would be an overlay over the wrong blocks.
func openOutput(dir string) (Medium, error) {
	manifest, err := readManifest(filepath.Join(dir, manifestFile))
	if err != nil {
		return Medium{}, fmt.Errorf("open build output: %w", err)
	}
	var named struct {
		Architecture string `json:"architecture"`
	}
	if err := json.Unmarshal(manifest, &named); err != nil {
		return Medium{}, fmt.Errorf("open build output: %s: %w", filepath.Join(dir, manifestFile), placeOf(manifest, err))
	}
	vm := VM{Arch: named.Architecture, Kernel: filepath.Join(dir, kernelFile), Initrd: filepath.Join(dir, initramfsFile)}
	console, err := vm.Console()
	if err != nil {
		return Medium{}, fmt.Errorf("open build output %s: %w", dir, err)
	}
	vm.Append = []string{"console=" + console}
	var errs []error
	for _, name := range []string{vm.Kernel, vm.Initrd, filepath.Join(dir, storeFile)} {
		if _, err := os.Stat(name); err != nil {
			errs = append(errs, fmt.Errorf("open build output: %w", err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Medium{}, fmt.Errorf("%w; name the output \"store\" in veneer.toml and run veneer build", err)
	}
	return newMedium(vm, filepath.Join(dir, storeFile), manifest), nil
}

// placeOf tells people where in a JSON text an error of encoding/json is, and what had to be there.
func placeOf(text []byte, err error) error {
	at := int64(len(text))
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		at = syntax.Offset
	case errors.As(err, &kind):
		at = kind.Offset
	}
	line := 1 + bytes.Count(text[:min(at, int64(len(text)))], []byte("\n"))
	return fmt.Errorf("line %d: want a manifest, which is JSON with a text \"architecture\", as veneer build writes it; build again", line)
}

func newMedium(vm VM, base string, key []byte) Medium {
	sum := sha256.Sum256(key)
	name := filepath.Base(base) + "-" + hex.EncodeToString(sum[:8]) + ".qcow2"
	m := Medium{VM: vm, Base: base, State: filepath.Join(filepath.Dir(base), stateDir, name)}
	m.VM.Disks = []Disk{{Path: m.State, Format: formatQcow2, Bus: VirtioBlk}}
	return m
}

func readManifest(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxManifest {
		return nil, fmt.Errorf("%s is larger than %d bytes; it is not a manifest", path, maxManifest)
	}
	return content, nil
}

// Claim makes the state if there is none for this very medium, or a new one if fresh is set, and removes the states of what
// the medium was before. The state is then this process's own until release, or the end of the process. The error is ErrInUse
// while somebody else has it: the caller may boot Throwaway instead. A concurrent reader sees the old state or the new one,
// never half of one; who has the old one open keeps it until it closes it.
func (m Medium) Claim(ctx context.Context, fresh bool) (release func(), err error) {
	dir := filepath.Dir(m.State)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make state: %w", err)
	}
	// Two runs that start at the same time make one state, and one of them gets it.
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("make state: %w", err)
	}
	defer d.Close()
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("make state: lock %s: %w", dir, err)
	}
	if err := m.prepareState(ctx, fresh); err != nil {
		return nil, err
	}
	state, err := os.Open(m.State)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	// The first is another run of ours, which may be before the start of its QEMU; the second a QEMU that somebody else started.
	err = unix.Flock(int(state.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || err == nil && held(state, lockFirst, lockCount) {
		err = ErrInUse
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("state %s: %w", m.State, err), state.Close())
	}
	return func() { state.Close() }, nil
}

// Vars is the file of the variables of this medium's firmware, beside its state.
func (m Medium) Vars() string { return strings.TrimSuffix(m.State, ".qcow2") + ".vars" }

// Throwaway is the medium as a disk whose changes are gone with the VM, so that any number of VMs may have it at a time.
func (m Medium) Throwaway() Disk {
	return Disk{Path: m.Base, Format: orDefault(m.kind, formatRaw), Bus: VirtioBlk, Snapshot: true, Sector: m.VM.Disks[0].Sector}
}

func (m Medium) prepareState(ctx context.Context, fresh bool) error {
	dir := filepath.Dir(m.State)
	if _, err := os.Stat(m.State); err == nil && !fresh {
		return nil
	}
	old, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("make state: %w", err)
	}
	part := m.State + ".part"
	base := filepath.Join("..", filepath.Base(m.Base)) // so that the directory can be moved as a whole
	var said bytes.Buffer
	create := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", orDefault(m.kind, formatRaw), "-b", base, part)
	create.Stderr = &said
	if err := create.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			err = fmt.Errorf("%w; apt-get install qemu-utils", err)
		}
		return errors.Join(fmt.Errorf("make state %s: %w %s", m.State, err, bytes.TrimSpace(said.Bytes())), removeIfThere(part))
	}
	if err := os.Rename(part, m.State); err != nil {
		return fmt.Errorf("make state: %w", err)
	}
	var errs []error
	for _, entry := range old {
		name := entry.Name()
		if strings.HasPrefix(name, filepath.Base(m.Base)+"-") && name != filepath.Base(m.State) {
			errs = append(errs, removeIfThere(filepath.Join(dir, name)))
		}
	}
	return errors.Join(errs...)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
