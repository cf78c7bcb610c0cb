package images

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

const (
	epochName = "epoch"
	maxEpoch  = 64 // bytes of the file
	inTPM     = " tpm"
)

// EpochPath is the file of a store that keeps the highest blessed epoch.
func EpochPath() string { return epochName }

// ErrOlderEpoch means that a set is older than one that was blessed on this machine.
var ErrOlderEpoch = errors.New("the set is older than what was blessed here")

// Blessed is the highest epoch of a set that was blessed on a machine, as its store has it.
type Blessed struct {
	Epoch uint64
	TPM   bool // the machine's TPM keeps it too
}

// Encode returns the content of the file.
func (b Blessed) Encode() []byte {
	text := strconv.FormatUint(b.Epoch, 10)
	if b.TPM {
		text += inTPM
	}
	return []byte(text + "\n")
}

// ReadBlessed reads what a store keeps; the zero value where nothing was ever blessed with it.
func ReadBlessed(store fs.FS) (b Blessed, err error) {
	text, err := readLimited(store, epochName, maxEpoch)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return b, err
	}
	number, ok := strings.CutSuffix(string(text), "\n")
	number, b.TPM = strings.CutSuffix(number, inTPM)
	b.Epoch, err = strconv.ParseUint(number, 10, 64)
	if err != nil || !ok || string(b.Encode()) != string(text) {
		return Blessed{}, &fs.PathError{Op: "read", Path: epochName, Err: fmt.Errorf("%q is not what a bless writes", clip(string(text)))}
	}
	return b, nil
}

// TPMRegister is the platform configuration register that a boot is measured into. In the registry of the UAPI group (Linux TPM PCR
// Registry) 13 is that of the images that extend a system; nothing extends it once the kernel runs, unlike 11 (phases of the boot)
// and 15 (what makes a machine itself), so that it can be told before the boot and holds to its end.
const TPMRegister = 13

// imagesPerEvent is how many IDs one event names: a TPM takes 1024 bytes.
const imagesPerEvent = 14

// Measurements are the events that the register is extended with, in order: the digest of the manifest, and the images from the bottom
// of the stack. digest is the SHA-256 of the manifest's bytes in hexadecimal. Of each the bytes are hashed, and no NUL behind them.
func Measurements(digest string, stack []Image) []string {
	events := []string{"veneer:manifest:" + digest}
	for i := 0; i < len(stack); i += imagesPerEvent {
		event := "veneer:images"
		for _, img := range stack[i:min(i+imagesPerEvent, len(stack))] {
			event += ":" + img.ID
		}
		events = append(events, event)
	}
	return events
}
