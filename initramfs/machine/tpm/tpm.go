// Package tpm speaks with a TPM 2.0: the five commands that Veneer needs, "TPM 2.0 Library, Part 3: Commands", each with an empty
// password and no other session.
//
// It guarantees that an answer of any bytes is an answer or an error, and that each command has a deadline. The highest blessed epoch
// that it keeps can only go up, see Epoch. It imports nothing of ours: PID 1 and the on-board command sit above it.
package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A TPM is how commands are carried to one and answers back.
type TPM struct {
	Exchange func(command []byte) (answer []byte, err error)
}

// Code is the answer of a TPM that did not do what it was asked (Part 2, "TPM_RC").
type Code uint32

func (c Code) Error() string { return fmt.Sprintf("the TPM answers with code %#x", uint32(c)) }

// Answers that have a meaning here.
const (
	noHandle      Code = 0x18b // TPM_RC_HANDLE of the first handle
	uninitialized Code = 0x14a // TPM_RC_NV_UNINITIALIZED
	defined       Code = 0x14c // TPM_RC_NV_DEFINED
)

var errForm = errors.New("the TPM's answer has not the form that the specification gives it")

// Tags and commands.
const (
	withoutSessions = 0x8001
	withSessions    = 0x8002

	nvDefineSpace = 0x12a
	nvSetBits     = 0x135
	pcrEvent      = 0x13c
	nvRead        = 0x14e
	nvReadPublic  = 0x169

	owner       = 0x40000001
	maxAnswer   = 4096
	maxEvent    = 1024
	headerBytes = 10
)

// emptyPassword is the authorization area: its length, TPM_RS_PW, no nonce, no attributes, no password.
var emptyPassword = []byte{0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0}

// call sends a command and returns what its answer holds behind the header and, where it was authorized, the length of the
// parameters.
func (t TPM) call(code uint32, authorized bool, handles []uint32, parameters []byte) (*reader, error) {
	c := make([]byte, headerBytes, 128)
	tag := uint16(withoutSessions)
	for _, h := range handles {
		c = binary.BigEndian.AppendUint32(c, h)
	}
	if authorized {
		tag = withSessions
		c = append(c, emptyPassword...)
	}
	c = append(c, parameters...)
	binary.BigEndian.PutUint16(c, tag)
	binary.BigEndian.PutUint32(c[2:], uint32(len(c)))
	binary.BigEndian.PutUint32(c[6:], code)
	answer, err := t.Exchange(c)
	if err != nil {
		return nil, err
	}
	r := &reader{rest: answer}
	r.u16()
	size, status := r.u32(), r.u32()
	if r.bad || int64(size) != int64(len(answer)) {
		return nil, errForm
	}
	if status != 0 {
		return nil, Code(status)
	}
	if authorized {
		n := r.u32()
		if r.bad || int64(n) > int64(len(r.rest)) {
			return nil, errForm
		}
		r.rest = r.rest[:n]
	}
	return r, nil
}

// A Digest is what one bank of a register was extended with.
type Digest struct {
	Algorithm string // as the TCG's logs name it
	Value     []byte
}

// banks are the algorithms that a TPM may have a bank of (Part 2, "TPM_ALG_ID"), with the sizes of their digests.
var banks = []struct {
	id   uint16
	size int
	name string
}{{0x04, 20, "sha1"}, {0x0b, 32, "sha256"}, {0x0c, 48, "sha384"}, {0x0d, 64, "sha512"}, {0x12, 32, "sm3_256"}, {0x27, 32, "sha3_256"}, {0x28, 48, "sha3_384"},
	{0x29, 64, "sha3_512"}}

// Event extends a register by data, at most 1024 bytes: the TPM itself hashes it for each bank that is active, so that none is left
// out. It returns what each bank was extended with.
func (t TPM) Event(register int, data []byte) ([]Digest, error) {
	if len(data) > maxEvent {
		return nil, fmt.Errorf("event of %d bytes: a TPM takes %d", len(data), maxEvent)
	}
	r, err := t.call(pcrEvent, true, []uint32{uint32(register)}, sized(data))
	if err != nil {
		return nil, err
	}
	var digests []Digest
	for n := r.u32(); n > 0 && !r.bad; n-- {
		id, before := r.u16(), len(digests)
		for _, b := range banks {
			if b.id == id {
				digests = append(digests, Digest{b.name, r.take(b.size)})
			}
		}
		if len(digests) == before {
			return nil, fmt.Errorf("bank %#x of the TPM is of an algorithm that nobody here knows", id)
		}
	}
	if r.bad || len(r.rest) > 0 {
		return nil, errForm
	}
	return digests, nil
}

func sized(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

// reader takes an answer apart. What is not there is zero, and bad.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.bad, r.rest = true, nil
		return make([]byte, n)
	}
	taken := r.rest[:n:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) u16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
