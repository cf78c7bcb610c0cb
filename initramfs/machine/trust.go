package machine

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"veneer/initramfs/machine/tpm"
	"veneer/overlay/mount"
	"veneer/stage"
)

// Bounds of a TPM: how long the kernel may take to find it, and it to answer.
const (
	tpmAppears = 10 * time.Second
	tpmAnswers = 20 * time.Second
)

// tpmDrivers are those of the interfaces that a TPM 2.0 has (TCG PC Client Platform TPM Profile); Debian's kernel has them built in.
var tpmDrivers = []string{"tpm_crb", "tpm_tis"}

// TPM implements stage.Machine.
func (m *Machine) TPM(ctx context.Context, wait bool) (stage.TPM, error) {
	var errs []error
	for _, name := range tpmDrivers {
		errs = append(errs, m.modules.Load(name))
	}
	ctx, cancel := context.WithTimeout(ctx, tpmAppears)
	defer cancel()
	for {
		d, err := tpm.Open(tpm.Path, tpmAnswers)
		if err == nil {
			return chip{d}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if !wait {
			return nil, errors.Join(append([]error{stage.ErrNoTPM}, errs...)...)
		}
		if err := m.listen(ctx); errors.Is(err, context.DeadlineExceeded) {
			wait = false
		} else if err != nil {
			return nil, err
		}
	}
}

// chip is a TPM with its digests as the record has them.
type chip struct{ *tpm.Device }

// Event implements stage.TPM.
func (c chip) Event(register int, data []byte) ([]stage.Digest, error) {
	extended, err := c.Device.Event(register, data)
	digests := make([]stage.Digest, len(extended))
	for i, d := range extended {
		digests[i] = stage.Digest{Algorithm: d.Algorithm, Value: hex.EncodeToString(d.Value)}
	}
	return digests, err
}

const (
	efiDir     = "/sys/firmware/efi"
	efiVars    = efiDir + "/efivars"
	secureBoot = efiVars + "/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
)

// mountVariables shows the variables of UEFI; it is false where this machine was not started by it. Another may have been first,
// and a firmware without variables has none.
func (m *Machine) mountVariables() bool {
	if _, err := os.Stat(efiDir); err != nil {
		return false
	}
	_ = m.modules.Load("efivarfs") // Debian's kernel has it as a module
	_ = m.Apply(mount.Mount{Type: "efivarfs", Source: "efivarfs", Target: efiVars, Flags: mount.NoSuid | mount.NoDev | mount.NoExec})
	return true
}

// SecureBoot implements stage.Machine: four bytes of attributes, and 1 where it is on (UEFI specification, "Globally Defined
// Variables"). A firmware that has variables and not this one has no Secure Boot.
func (m *Machine) SecureBoot() (bool, error) {
	if !m.mountVariables() {
		return false, nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(efiVars, &st); err != nil {
		return false, &fs.PathError{Op: "statfs", Path: efiVars, Err: err}
	}
	if st.Type != unix.EFIVARFS_MAGIC {
		return false, &fs.PathError{Op: "mount efivarfs", Path: efiVars, Err: unix.ENODEV}
	}
	text, err := os.ReadFile(secureBoot)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil && len(text) != 5 {
		err = &fs.PathError{Op: "read", Path: secureBoot, Err: unix.EINVAL}
	}
	return err == nil && text[4] != 0, err
}
