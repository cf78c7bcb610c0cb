package identity

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"

	"veneer/images/sha2"
)

// Seeds that a running system keeps for itself: systemd's, and that of older inits.
var seedFiles = []string{systemdSeed, "var/lib/urandom/random-seed"}

const (
	systemdSeed = "var/lib/systemd/random-seed"

	storedSeed     = "random-seed"
	storedPlatform = "platform" // digest of the platform that the seed was written on

	seedSize   = 512  // bytes: what systemd keeps at least
	leastSeed  = 32   // bytes, below which a file is no seed
	mostSeed   = 4096 // bytes
	seedCredit = 256  // bits: what the hash at the end of a seed carries, and what the kernel's pool holds
)

// randomSeed feeds the kernel the seed that the last boot left, and leaves another for the next.
//
//   - the old one is stirred in without credit, so that what follows is made of it too
//   - the new one is made of the kernel's randomness and of the old, and is durable in its place
//   - only then the old one is credited: no seed is ever credited twice, wherever the power is cut. A cut in the middle of the
//     write leaves a mix of both, neither of which was
//
// A seed that was written on another platform came with a copied disk and is not credited; nor is anything in the base, where
// every machine has the same.
func (a *applier) randomSeed(mode Mode) (string, error) {
	if mode == Inherit {
		return "as the base has it", nil
	}
	if mode == Persist && a.systemdKeepsSeed() {
		return "left to systemd, which keeps one in /var", nil
	}
	var errs []error
	for _, f := range seedFiles {
		if a.root.exists(f) {
			errs = append(errs, a.root.remove(f))
		}
	}
	if mode != Persist || a.store == nil {
		if mode == Persist {
			errs = append(errs, ErrNoState)
		}
		return "none", errors.Join(errs...)
	}
	what, err := a.store.rotateSeed(a.env)
	return what, errors.Join(append(errs, err)...)
}

// systemdKeepsSeed reports whether systemd has a seed that outlives the boot, and rotates it.
func (a *applier) systemdKeepsSeed() bool {
	return a.env.Kept.By("/"+systemdSeed) != "" && (a.root.exists("usr/lib/systemd/systemd-random-seed") || a.root.exists("lib/systemd/systemd-random-seed"))
}

func (s *Store) rotateSeed(env Env) (string, error) {
	old, _ := s.read(storedSeed, mostSeed)
	if len(old) < leastSeed {
		old = nil
	}
	digest := sha2.Sum256([]byte("veneer platform\x00" + env.Platform))
	platform := []byte(hex.EncodeToString(digest[:16]) + "\n")
	was, _ := s.read(storedPlatform, 256)
	ours := bytes.Equal(was, platform)

	// Cheap, and it tells sisters with one seed apart.
	if err := env.System.Mix(append(platform, old...), 0); err != nil {
		return "", err
	}
	seed := make([]byte, seedSize)
	ready, err := env.System.Random(seed)
	if err != nil {
		return "", err
	}
	if old == nil && !ready {
		return "none yet: the kernel has gathered too little for one", nil
	}
	sum := sha2.Sum256([]byte("veneer random-seed"), binary.LittleEndian.AppendUint64(nil, uint64(len(old))), old, seed)
	copy(seed[seedSize-sha2.Size256:], sum[:]) // its last bytes: never less random than the old one
	if len(old) == seedSize {
		err = s.renew(storedSeed, seed)
	} else {
		err = s.write(storedSeed, seed, 0o600)
	}
	if err != nil {
		return "stirred in, not credited", err
	}
	if !ours {
		// A cut before this costs the credit of one seed.
		if err := s.write(storedPlatform, platform, 0o600); err != nil {
			return "stirred in, not credited", err
		}
	}
	switch {
	case old == nil:
		return "made", nil
	case !ours:
		return "rotated; not credited, since it was written on another machine", nil
	}
	return "rotated, credited", env.System.Mix(old, seedCredit)
}
