package stage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"veneer/images"
)

// What an initramfs says of the machine's TPM 2.0. It stands there, and not in the manifest: a manifest that somebody brought back
// must not do away with what refuses it.
const (
	TPMNone     = "none"     // it is not asked
	TPMWanted   = "wanted"   // it is asked where there is one; without it the boot is degraded
	TPMRequired = "required" // no boot without it
)

// ErrNoTPM means that the machine has no TPM 2.0 that the kernel drives.
var ErrNoTPM = errors.New("this machine has no TPM 2.0 that the kernel drives")

// ErrTPMCleared means that a TPM does not keep what it kept.
var ErrTPMCleared = errors.New("the TPM keeps no epoch, and kept one before: it was cleared, or is another one")

// TPM is what a boot asks of one.
type TPM interface {
	// Epoch is the highest blessed epoch that it keeps; kept is false where it keeps none.
	Epoch() (epoch uint64, kept bool, err error)
	// Event extends a register in each active bank, and returns what with.
	Event(register int, data []byte) ([]Digest, error)
	Close() error
}

// Digest is what a bank of a register was extended with.
type Digest struct {
	Algorithm string `json:"algorithm"` // as the TCG's logs have it: sha256
	Value     string `json:"value"`     // hex
}

// Measurement is an event that a register was extended with.
type Measurement struct {
	Register int      `json:"register"`
	Event    string   `json:"event"`
	Digests  []Digest `json:"digests"` // one for each bank
}

// checkEpoch holds the set against what was blessed on this machine, as the store has it. Whoever writes to the store can write
// that file too; what it guards against is an old set that came by a way that only adds, such as an update.
func (r *Runner) checkEpoch(store storeTree, man images.Manifest) (images.Blessed, error) {
	blessed, err := images.ReadBlessed(store.files)
	if err != nil {
		// A bad sector must not cost the machine.
		r.Degrade("the highest blessed epoch is not known", err.Error()+"; the next veneer bless writes it again")
		return blessed, nil
	}
	t := &r.Record.Trust
	t.Epoch, t.Store = blessed.Epoch, blessed.Epoch
	return blessed, olderThan(man, blessed.Epoch, "the store")
}

func olderThan(man images.Manifest, blessed uint64, by string) error {
	if man.Epoch >= blessed {
		return nil
	}
	return fmt.Errorf("epoch %d, and %s keeps %d: %w", man.Epoch, by, blessed, images.ErrOlderEpoch)
}

// askTPM holds the set against the epoch that the TPM keeps, and extends a register by the set, before anything of it is used.
func askTPM(ctx context.Context, r *Runner, m Machine, policy string, set *Set) error {
	r.Record.Trust.TPM = TPMNone
	if policy == "" || policy == TPMNone {
		return nil
	}
	r.Record.Trust.TPM = policy
	_, err := Do(ctx, r, StepTPM, func(ctx context.Context) (struct{}, error) {
		err := measure(ctx, r, m, policy, set.Manifest, set.Blessed)
		if err != nil && policy != TPMRequired && !errors.Is(err, images.ErrOlderEpoch) {
			r.Degrade("the TPM was not asked in full", err.Error())
			err = nil
		}
		return struct{}{}, err
	})
	return err
}

func measure(ctx context.Context, r *Runner, m Machine, policy string, man images.Manifest, blessed images.Blessed) (err error) {
	tpm, err := m.TPM(ctx, policy == TPMRequired)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tpm.Close()) }()
	t := &r.Record.Trust
	t.TPMFound = true
	// First, so that a boot that is refused below is measured as well.
	for _, event := range images.Measurements(r.Record.Deployment.Manifest, man.Images) {
		digests, err := tpm.Event(images.TPMRegister, []byte(event))
		if err != nil {
			return fmt.Errorf("extend register %d: %w", images.TPMRegister, err)
		}
		t.Measured = append(t.Measured, Measurement{images.TPMRegister, event, digests})
	}
	epoch, kept, err := tpm.Epoch()
	if err != nil {
		return fmt.Errorf("the highest blessed epoch: %w", err)
	}
	if !kept && blessed.TPM {
		return ErrTPMCleared
	}
	t.TPMEpoch, t.TPMKeeps, t.Epoch = epoch, kept, max(t.Epoch, epoch)
	return olderThan(man, epoch, "the TPM")
}

// EventLogPath is where systemd keeps what the running system measures, see its TPM2_PCR_MEASUREMENTS: we write the first lines.
const EventLogPath = "/run/log/systemd/tpm2-measure.log"

// EventLog is what was measured in the form of systemd's log: a sequence of JSON texts (RFC 7464), each a record near to the TCG's
// CEL-JSON.
func (t Trust) EventLog() []byte {
	var b strings.Builder
	for _, e := range t.Measured {
		b.WriteString("\x1e{\"pcr\":" + strconv.Itoa(e.Register) + ",\"digests\":[")
		for i, d := range e.Digests {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(`{"hashAlg":"` + d.Algorithm + `","digest":"` + d.Value + `"}`)
		}
		// All of ours are letters, digits and colons.
		b.WriteString(`],"content_type":"systemd","content":{"string":"` + e.Event + "\"}}\n")
	}
	return []byte(b.String())
}

// ignoreUnderSecureBoot takes back what the command line says against verification, where the firmware checks what it starts: who
// signed the kernel for it vouches for what runs. A firmware that cannot be asked counts as one that checks.
func ignoreUnderSecureBoot(r *Runner, m Machine, env *Env) {
	if !env.Config.Unverified || env.Paper {
		return
	}
	on, err := m.SecureBoot()
	switch {
	case err != nil:
		r.Noticef("veneer.verify=none is ignored: whether Secure Boot is on cannot be told: %v", err)
	case on:
		r.Noticef("veneer.verify=none is ignored: Secure Boot is on")
	default:
		return
	}
	env.Config.Unverified = false
	r.Record.Trust.Ignored = "veneer.verify=none"
}
