package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// The highest blessed epoch is kept as a number of bits that are set, from the lowest on, in NV indices of the type "bit field": of
// such an index the TPM sets bits and never clears one. Setting needs no secret, so that a bless needs none; only who may delete
// the index, the owner, can begin anew. A counter was not taken: a new one begins where any other of this TPM once stood
// (Part 3, TPM2_NV_Increment), so that its value would need an offset, which would have to be kept where it cannot go back either.
const (
	firstIndex = 0x01856500 // of the range that is the owner's; the next ones follow
	perIndex   = 64
	indices    = 4

	// MaxEpoch is the highest epoch that a TPM can keep.
	MaxEpoch = indices * perIndex
)

// The public area of an index (Part 2, "TPMS_NV_PUBLIC" and "TPMA_NV").
const (
	sha256     = 0x0b
	bitField   = 2 << 4
	authWrite  = 1 << 2
	ownerRead  = 1 << 17
	authRead   = 1 << 18
	noLockout  = 1 << 25 // a wrong password elsewhere does not lock it
	written    = 1 << 29
	attributes = bitField | authWrite | ownerRead | authRead | noLockout
)

// ErrForeignIndex means that somebody uses the index for something else.
var ErrForeignIndex = errors.New("it is not an index that veneer bless made")

// Epoch returns the highest blessed epoch. kept is false where there is no index: nothing was ever blessed with this TPM, or its owner
// cleared it since.
func (t TPM) Epoch() (epoch uint64, kept bool, err error) {
	for i := range uint32(indices) {
		n, there, err := t.bits(firstIndex + i)
		if err != nil {
			return 0, false, fmt.Errorf("NV index %#x: %w", firstIndex+i, err)
		}
		if !there {
			break
		}
		kept = true
		epoch += uint64(n)
		if n < perIndex {
			break
		}
	}
	return epoch, kept, nil
}

// RaiseEpoch makes the TPM keep an epoch, and makes the indices where they are not there. One that is lower than what is kept changes
// nothing. A stop in between leaves what was kept or something between that and epoch.
func (t TPM) RaiseEpoch(epoch uint64) error {
	if epoch > MaxEpoch {
		return fmt.Errorf("epoch %d: a TPM keeps one of up to %d", epoch, MaxEpoch)
	}
	for i := range uint32(indices) {
		index := firstIndex + i
		n := min(epoch, perIndex)
		if err := t.raise(index, uint(n)); err != nil {
			return fmt.Errorf("NV index %#x: %w", index, err)
		}
		if epoch -= n; epoch == 0 {
			break
		}
	}
	return nil
}

func (t TPM) raise(index uint32, n uint) error {
	had, there, err := t.bits(index)
	if err != nil || there && had >= int(n) && n > 0 {
		return err
	}
	if !there {
		if err := t.define(index); err != nil && !errors.Is(err, defined) {
			return err
		}
	}
	mask := uint64(1)<<n - 1
	if n == perIndex {
		mask = ^uint64(0)
	}
	_, err = t.call(nvSetBits, true, []uint32{index, index}, binary.BigEndian.AppendUint64(nil, mask))
	return err
}

// bits counts the bits of an index that is ours.
func (t TPM) bits(index uint32) (n int, there bool, err error) {
	r, err := t.call(nvReadPublic, false, []uint32{index}, nil)
	if errors.Is(err, noHandle) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	public := &reader{rest: r.take(int(r.u16()))}
	if of, hash, attr := public.u32(), public.u16(), public.u32(); r.bad || public.bad || of != index {
		return 0, false, errForm
	} else if policy, size := public.u16(), public.u16(); hash != sha256 || attr&^written != attributes || policy != 0 || size != perIndex/8 {
		return 0, false, ErrForeignIndex
	} else if attr&written == 0 {
		return 0, true, nil // a bless was cut off
	}
	r, err = t.call(nvRead, true, []uint32{index, index}, []byte{0, perIndex / 8, 0, 0})
	if err != nil {
		return 0, false, err
	}
	if r.u16() != perIndex/8 || len(r.rest) != perIndex/8 {
		return 0, false, errForm
	}
	value := binary.BigEndian.Uint64(r.rest)
	if value&(value+1) != 0 {
		return 0, false, fmt.Errorf("%w: bits %#x", ErrForeignIndex, value)
	}
	return bits.OnesCount64(value), true, nil
}

// define makes an index, with the owner's authorization, which is empty on a device that nobody took ownership of.
func (t TPM) define(index uint32) error {
	public := binary.BigEndian.AppendUint32(nil, index)
	public = binary.BigEndian.AppendUint16(public, sha256)
	public = binary.BigEndian.AppendUint32(public, attributes)
	public = binary.BigEndian.AppendUint16(public, 0) // no policy
	public = binary.BigEndian.AppendUint16(public, perIndex/8)
	_, err := t.call(nvDefineSpace, true, []uint32{owner}, append([]byte{0, 0}, sized(public)...))
	return err
}
