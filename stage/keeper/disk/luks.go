package disk

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
	"veneer/initramfs/machine/probe"
	"veneer/overlay/mount"
	"veneer/stage"
)

const (
	randomLabel  = "veneer-random" // of a header whose key is forgotten: whoever asks for Random may make it anew
	defaultTries = 3
	unlockLimit  = 2 * time.Minute
	keyDir       = stage.KeyDir
	maxKeyFile   = 64 << 10
	keySize      = 64

	enrolPackages = "systemd-cryptsetup (Debian 12: systemd) and libtss2-esys-3.0.2-0"
)

// Keys as long as those that we make ourselves have all the bits that they need, and gain nothing by being stretched.
var quickStretch = []string{"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"}

// key is where a key file lies: on which device, with which file system.
type key struct{ device, fsType, file string }

// Unlock opens an encrypted device in the one way that the spec says, and returns what is mapped. With Random it makes the
// encryption anew.
func (m *Disk) Unlock(ctx context.Context, root, device string, how stage.UnlockSpec, k key) (mapped string, err error) {
	switch how.Kind {
	case stage.UnlockRandom:
		if err := m.forgotten(device); err != nil {
			return "", fmt.Errorf("unlock %s: %w", device, err)
		}
		return m.EncryptNew(ctx, root, device, how, k)
	case stage.UnlockTPM2:
		err = m.openByTPM(ctx, root, device, how)
	case stage.UnlockKeyFile:
		var secret []byte
		if secret, err = m.readKey(k); err == nil {
			err = m.openWith(ctx, root, device, how, secret)
			clear(secret)
		}
	case stage.UnlockPassphrase:
		err = m.unlockByPerson(ctx, root, device, how)
	default:
		err = errors.New("nothing says with what")
	}
	if err != nil {
		return "", err
	}
	return mappedDevice(how)
}

func (m *Disk) openByTPM(ctx context.Context, root, device string, how stage.UnlockSpec) error {
	return m.cryptsetup(ctx, root, nil, "open", "--type", "luks2", "--token-only", "--token-type", "systemd-tpm2", device, how.Mapped())
}

func (m *Disk) unlockByPerson(ctx context.Context, root, device string, how stage.UnlockSpec) error {
	tries := how.Tries
	if tries == 0 {
		tries = defaultTries
	}
	for n := 1; ; n++ {
		phrase, err := m.Ask(ctx, fmt.Sprintf("Passphrase for %s (%d of %d)", device, n, tries))
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

func (m *Disk) openWith(ctx context.Context, root, device string, how stage.UnlockSpec, key []byte) error {
	return m.cryptsetup(ctx, root, key, "open", "--type", "luks2", "--key-file", secretFile, device, how.Mapped())
}

func (m *Disk) cryptsetup(ctx context.Context, root string, key []byte, args ...string) error {
	_, _, err := m.run(ctx, root, tool{program: "cryptsetup", pkg: "cryptsetup-bin", args: args, limit: unlockLimit, secret: key})
	return err
}

// forgotten reports whether a device may be encrypted with a new random key: its old one is known to nobody.
func (m *Disk) forgotten(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	b, err := probe.LookAt(f, size)
	switch {
	case errors.Is(err, probe.ErrAmbiguous):
		return fmt.Errorf("%w: %w", stage.ErrForeign, err)
	case err != nil || b.Empty:
		return err
	case b.Type != stage.LUKS || b.Label != randomLabel:
		return fmt.Errorf("%w: a random key would destroy the %s %q on it (%s)", stage.ErrForeign, b.Type, b.Label, b.Reason)
	}
	// With the mark it holds nothing, and EncryptNew takes it.
	return (&site{File: f, size: size}).put(probe.Mark(size), size-probe.MarkSize)
}

// EncryptNew makes LUKS2 on a device that holds nothing, and opens it:
//
//   - looks whether the device holds nothing, marks it as being made
//   - writes the header, with the key that will stay or, for the TPM, with one that will not
//   - enrols the TPM, which removes that key
//   - opens it as each later boot will, and clears the beginning of what it yields
//   - removes the mark
func (m *Disk) EncryptNew(ctx context.Context, root, device string, how stage.UnlockSpec, k key) (mapped string, err error) {
	fail := func(err error) (string, error) { return "", fmt.Errorf("encrypt %s: %w", device, err) }
	secret, err := m.newKey(ctx, device, how, k)
	if err != nil {
		return fail(err)
	}
	defer clear(secret)
	s, err := openSite(device)
	if err != nil {
		return fail(err)
	}
	size := s.size
	if err := errors.Join(s.clearTold(), s.Close()); err != nil { // cryptsetup wants the device for itself
		return fail(err)
	}
	if err := m.luksFormat(ctx, root, device, how, secret); err != nil {
		return fail(err)
	}
	if how.Kind == stage.UnlockTPM2 {
		err = m.openByTPM(ctx, root, device, how)
	} else {
		err = m.openWith(ctx, root, device, how, secret)
	}
	if err != nil {
		return fail(err)
	}
	if mapped, err = mappedDevice(how); err != nil {
		return fail(errors.Join(err, unmap(how)))
	}
	if err := errors.Join(clearHead(mapped), unmark(device, size)); err != nil {
		return fail(errors.Join(err, unmap(how)))
	}
	return mapped, nil
}

// newKey is what the header is made with.
func (m *Disk) newKey(ctx context.Context, device string, how stage.UnlockSpec, k key) ([]byte, error) {
	switch {
	case how.KeyFile != "":
		return m.readKey(k)
	case how.Kind == stage.UnlockPassphrase:
		for range defaultTries {
			first, err := m.Ask(ctx, "New passphrase for "+device)
			if err != nil {
				return nil, err
			}
			second, err := m.Ask(ctx, "The same again")
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

func (m *Disk) luksFormat(ctx context.Context, root, device string, how stage.UnlockSpec, key []byte) error {
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
	_, _, err := m.run(ctx, root, tool{program: "systemd-cryptenroll", pkg: enrolPackages,
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
	return (&site{File: f}).put(make([]byte, probe.Reserved), 0)
}

// unmark removes the mark of a device that is in use by now.
func unmark(device string, size int64) error {
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return (&site{File: f, size: size}).done()
}

// mappedDevice is the device that cryptsetup opened.
func mappedDevice(how stage.UnlockSpec) (string, error) {
	dm, err := devmapper.Open()
	if err != nil {
		return "", err
	}
	defer dm.Close()
	number, err := dm.Number(how.Mapped())
	if err != nil {
		return "", err
	}
	return "/dev/dm-" + strconv.FormatUint(uint64(number), 10), nil
}

// unmap closes what was mapped.
func unmap(how stage.UnlockSpec) error {
	dm, err := devmapper.Open()
	if err != nil {
		return err
	}
	defer dm.Close()
	return dm.Remove(how.Mapped())
}

// readKey reads the key file from its device, which is mounted for that long.
func (m *Disk) readKey(k key) (secret []byte, err error) {
	data := ""
	if k.fsType == "vfat" {
		data = "codepage=437,iocharset=ascii"
	}
	for _, op := range []mount.Op{mount.Mkdir{Path: keyDir, Mode: 0o700}, mount.Mount{Type: k.fsType, Source: k.device, Target: keyDir,
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
	fd, err := unix.Openat2(dir, strings.TrimPrefix(path.Clean("/"+k.file), "/"), &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return nil, fmt.Errorf("%s on %s: %w", k.file, k.device, err)
	}
	f := os.NewFile(uintptr(fd), k.file)
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() == 0 || info.Size() > maxKeyFile {
		return nil, errors.Join(err, fmt.Errorf("%s on %s: want a file of 1 to %d bytes", k.file, k.device, maxKeyFile))
	}
	return io.ReadAll(f)
}
