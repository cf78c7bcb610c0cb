package machine

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"veneer/images/devmapper"
	"veneer/overlay/mount"
	"veneer/stage"
)

const (
	luksType     = "crypto_LUKS"
	defaultName  = "veneer-state"
	randomLabel  = "veneer-random" // of a header whose key is forgotten: whoever asks for Random may make it anew
	defaultTries = 3
	unlockLimit  = 2 * time.Minute
	keyDir       = stage.MountsDir + "/key"
	maxKeyFile   = 64 << 10
	keySize      = 64
)

// Keys as long as those that we make ourselves have all the bits that they need, and gain nothing by being stretched.
var quickStretch = []string{"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"}

// Unlock implements stage.StateKeeper.
func (m *Machine) Unlock(ctx context.Context, root, device string, how stage.UnlockSpec, ask stage.AskFunc) (mapped string, undo func() error, err error) {
	fail := func(err error) (string, func() error, error) {
		return "", nil, fmt.Errorf("unlock %s: %w", device, err)
	}
	if how.Kind == stage.UnlockRandom {
		if err := m.forgotten(device); err != nil {
			return fail(err)
		}
		return m.EncryptNew(ctx, root, device, how, ask)
	}
	if err := m.cryptModules(ctx, root); err != nil {
		return fail(err)
	}
	if err := m.unlock(ctx, root, device, how, ask); err != nil {
		return fail(err)
	}
	return mappedDevice(how)
}

// cryptModules loads what the kernel needs. Only dm_crypt is asked for: the rest may be built in, be for other machines, or be done
// without.
func (m *Machine) cryptModules(ctx context.Context, root string) error {
	for _, name := range []string{"algif_skcipher", "xts", "aesni_intel", "aes_ce_blk", "tpm_crb", "tpm_tis"} {
		if strings.HasPrefix(name, "aes") && m.modules.Emulated {
			continue
		}
		if err := m.ModulesOf(ctx, root, name); err != nil {
			m.Detail("%v", err)
		}
	}
	return m.ModulesOf(ctx, root, "dm_crypt")
}

// unlock tries the keys in their order.
func (m *Machine) unlock(ctx context.Context, root, device string, how stage.UnlockSpec, ask stage.AskFunc) error {
	var errs []error
	if how.Kind == stage.UnlockTPM2 {
		err := m.cryptsetup(ctx, root, nil, "open", "--type", "luks2", "--token-only", "--token-type", "systemd-tpm2", device, mappedName(how))
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("the TPM: %w", err))
	}
	if how.Kind == stage.UnlockKeyFile || how.KeyFile != "" {
		key, err := m.readKey(ctx, root, how)
		if err == nil {
			err = m.openWith(ctx, root, device, how, key)
			clear(key)
		}
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("the key file: %w", err))
	}
	if how.Kind == stage.UnlockPassphrase || how.Recover {
		for _, err := range errs {
			m.Detail("unlock %s: %v", device, err)
		}
		if err := m.unlockByPerson(ctx, root, device, how, ask); err == nil {
			return nil
		} else {
			errs = append(errs, err)
		}
	}
	return fmt.Errorf("%w: %w", stage.ErrLocked, errors.Join(errs...))
}

func (m *Machine) unlockByPerson(ctx context.Context, root, device string, how stage.UnlockSpec, ask stage.AskFunc) error {
	tries := how.Tries
	if tries == 0 {
		tries = defaultTries
	}
	for n := 1; ; n++ {
		phrase, err := m.ask(ctx, ask, fmt.Sprintf("Passphrase for %s (%d of %d)", device, n, tries))
		if err != nil {
			return err
		}
		err = m.openWith(ctx, root, device, how, phrase)
		clear(phrase)
		if err == nil {
			return nil
		}
		if n == tries {
			return fmt.Errorf("%d passphrases: %w", tries, err)
		}
	}
}

func (m *Machine) ask(ctx context.Context, ask stage.AskFunc, prompt string) ([]byte, error) {
	if ask == nil {
		ask = m.askConsole
	}
	return ask(ctx, prompt)
}

func (m *Machine) openWith(ctx context.Context, root, device string, how stage.UnlockSpec, key []byte) error {
	return m.cryptsetup(ctx, root, key, "open", "--type", "luks2", "--key-file", secretFile, device, mappedName(how))
}

func (m *Machine) cryptsetup(ctx context.Context, root string, key []byte, args ...string) error {
	_, _, err := m.run(ctx, root, tool{program: "cryptsetup", pkg: "cryptsetup-bin", args: args, limit: unlockLimit, secret: key})
	return err
}

// forgotten reports whether a device may be encrypted with a new random key: its old one is known to nobody.
func (m *Machine) forgotten(device string) error {
	d, err := m.LookAt(device)
	if err != nil || d.Empty {
		return err
	}
	if d.FileSystem != luksType || d.Label != randomLabel {
		return fmt.Errorf("%w: a random key would destroy the %s %q on it", stage.ErrForeign, d.FileSystem, d.Label)
	}
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// With the mark it holds nothing, and EncryptNew takes it.
	return (&site{f, d.Size}).put(mark(d.Size), d.Size-markSize)
}

// EncryptNew implements stage.StateMaker:
//
//   - looks whether the device holds nothing, marks it as being made
//   - writes the header, with the key that will stay or, for the TPM, with one that will not
//   - enrols the TPM, which removes that key
//   - opens it as each later boot will, and clears the beginning of what it yields
//   - removes the mark
func (m *Machine) EncryptNew(ctx context.Context, root, device string, how stage.UnlockSpec, ask stage.AskFunc) (mapped string, undo func() error, err error) {
	fail := func(err error) (string, func() error, error) {
		return "", nil, fmt.Errorf("encrypt %s: %w", device, err)
	}
	if err := m.cryptModules(ctx, root); err != nil {
		return fail(err)
	}
	key, err := m.newKey(ctx, root, device, how, ask)
	if err != nil {
		return fail(err)
	}
	defer clear(key)
	s, err := openSite(device)
	if err != nil {
		return fail(err)
	}
	size := s.size
	if err := s.Close(); err != nil { // cryptsetup wants the device for itself
		return fail(err)
	}
	if err := m.luksFormat(ctx, root, device, how, key); err != nil {
		return fail(err)
	}
	if how.Kind == stage.UnlockTPM2 {
		err = m.unlock(ctx, root, device, stage.UnlockSpec{Kind: how.Kind, Name: how.Name}, nil)
	} else {
		err = m.openWith(ctx, root, device, how, key)
	}
	if err != nil {
		return fail(err)
	}
	mapped, undo, err = mappedDevice(how)
	if err != nil {
		return fail(err)
	}
	if err := errors.Join(clearHead(mapped), unmark(device, size)); err != nil {
		return fail(errors.Join(err, undo()))
	}
	m.forget(device)
	return mapped, undo, nil
}

// newKey is what the header is made with.
func (m *Machine) newKey(ctx context.Context, root, device string, how stage.UnlockSpec, ask stage.AskFunc) ([]byte, error) {
	switch {
	case how.KeyFile != "":
		return m.readKey(ctx, root, how)
	case how.Kind == stage.UnlockPassphrase:
		for range defaultTries {
			first, err := m.ask(ctx, ask, "New passphrase for "+device)
			if err != nil {
				return nil, err
			}
			second, err := m.ask(ctx, ask, "The same again")
			if err != nil {
				return nil, err
			}
			if len(first) > 0 && bytes.Equal(first, second) {
				return first, nil
			}
		}
		return nil, fmt.Errorf("%w: the two passphrases differ, or are empty", stage.ErrLocked)
	case how.Kind == stage.UnlockTPM2 || how.Kind == stage.UnlockRandom:
		key := make([]byte, keySize)
		_, err := rand.Read(key)
		return key, err
	}
	return nil, fmt.Errorf("%w: nothing says with what", stage.ErrLocked)
}

func (m *Machine) luksFormat(ctx context.Context, root, device string, how stage.UnlockSpec, key []byte) error {
	args := []string{"luksFormat", "--type", "luks2", "--batch-mode", "--key-file", secretFile}
	label := how.Label
	if how.Kind == stage.UnlockRandom {
		label = randomLabel
	}
	if label != "" {
		args = append(args, "--label", label)
	}
	if how.Kind != stage.UnlockPassphrase && len(key) >= keySize {
		args = append(args, quickStretch...)
	}
	if err := m.cryptsetup(ctx, root, key, append(args, device)...); err != nil {
		return err
	}
	if how.Kind != stage.UnlockTPM2 {
		return nil
	}
	enrol := []string{"--unlock-key-file=" + secretFile, "--tpm2-device=auto", "--tpm2-pcrs=" + how.PCRs}
	if how.KeyFile == "" {
		enrol = append(enrol, "--wipe-slot=0")
	}
	_, _, err := m.run(ctx, root, tool{program: "systemd-cryptenroll", pkg: "systemd-cryptsetup (Debian 12: systemd) and libtss2-esys-3.0.2-0",
		args: append(enrol, device), limit: unlockLimit, secret: key})
	return err
}

// clearHead makes a mapped device empty: what it yields is noise.
func clearHead(mapped string) error {
	f, err := os.OpenFile(mapped, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return (&site{File: f}).put(make([]byte, reserved), 0)
}

// unmark removes the mark of a device that is in use by now.
func unmark(device string, size int64) error {
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return (&site{f, size}).done()
}

func mappedName(how stage.UnlockSpec) string {
	if how.Name != "" {
		return how.Name
	}
	return defaultName
}

// mappedDevice is the device that cryptsetup opened, and what closes it.
func mappedDevice(how stage.UnlockSpec) (string, func() error, error) {
	name := mappedName(how)
	dm, err := devmapper.Open()
	if err != nil {
		return "", nil, err
	}
	defer dm.Close()
	number, err := dm.Number(name)
	if err != nil {
		return "", nil, err
	}
	undo := func() error {
		dm, err := devmapper.Open()
		if err != nil {
			return err
		}
		defer dm.Close()
		return dm.Remove(name)
	}
	return "/dev/dm-" + strconv.FormatUint(uint64(number), 10), undo, nil
}

// readKey reads the key file from its device, which is mounted for that long.
func (m *Machine) readKey(ctx context.Context, root string, how stage.UnlockSpec) (key []byte, err error) {
	d, err := m.Device(ctx, how.KeyDevice)
	if err != nil {
		return nil, err
	}
	modules, data := []string{d.FileSystem}, ""
	if d.FileSystem == "vfat" {
		modules, data = append(modules, "nls_cp437", "nls_ascii"), "codepage=437,iocharset=ascii"
	}
	if err := m.ModulesOf(ctx, root, modules...); err != nil {
		return nil, err
	}
	for _, op := range []mount.Op{mount.Mkdir{Path: keyDir, Mode: 0o700}, mount.Mount{Type: d.FileSystem, Source: d.Path, Target: keyDir,
		Flags: mount.ReadOnly | mount.NoSuid | mount.NoDev | mount.NoExec, Data: data}} {
		if err := m.Apply(op); err != nil {
			return nil, err
		}
	}
	defer func() { err = errors.Join(err, m.Apply(mount.Unmount{Target: keyDir})) }()
	dir, err := unix.Open(keyDir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, strings.TrimPrefix(path.Clean("/"+how.KeyFile), "/"), &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return nil, fmt.Errorf("%s on %s: %w", how.KeyFile, d.Path, err)
	}
	f := os.NewFile(uintptr(fd), how.KeyFile)
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() == 0 || info.Size() > maxKeyFile {
		return nil, errors.Join(err, fmt.Errorf("%s on %s: want a file of 1 to %d bytes", how.KeyFile, d.Path, maxKeyFile))
	}
	return io.ReadAll(f)
}
