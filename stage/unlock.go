package stage

// What opens an encrypted state, and what a secure reset of one comes to.

import (
	"context"
	"time"

	"veneer/boot"
	"veneer/images"
	"veneer/overlay/state"
)

// LUKS is what StateDevice calls the content of an encrypted device.
const LUKS = "crypto_LUKS"

// secure is what a secure reset of an encrypted state comes to. What is found by what it holds is not found any more once it holds
// nothing.
func (p policy) secure(u UnlockSpec) state.Secure {
	if by := p.place.On.Device.Kind; p.Create && u.Kind != "" && by != boot.ByLabel && by != boot.ByUUID {
		return state.SecureDestroy
	}
	return state.SecureRefuse
}

// keyThere reports whether the device answers with whose key file a state would be made anew. A TPM opens the present one without it.
func (p policy) keyThere(ctx context.Context, m Machine, wait time.Duration) bool {
	u, err := p.unlock(wait)
	if err != nil || u.KeyFile == "" {
		return err == nil
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	_, err = m.Device(ctx, u.KeyDevice)
	return err == nil
}

// unlock is how the state is encrypted; Kind is empty where it is not.
func (p policy) unlock(wait time.Duration) (UnlockSpec, error) {
	u := UnlockSpec{Kind: UnlockKind(p.Unlock), Label: stateLabel, Wait: wait}
	if p.missing == boot.MissingWait {
		u.Wait = forever
	}
	if p.Unlock == "" || p.Unlock == images.UnlockNone {
		return UnlockSpec{}, nil
	}
	if p.KeyFile != "" {
		ref, err := boot.ParseStoreRef(p.KeyFile)
		if err != nil {
			return u, err
		}
		u.KeyDevice, u.KeyFile = ref.Device, ref.Dir
	}
	return u, nil
}
