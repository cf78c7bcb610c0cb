package images

import (
	"filippo.io/edwards25519"

	"veneer/images/sha2"
)

// Sizes of Ed25519, RFC 8032.
const (
	keySize       = 32
	signatureSize = 64
)

// verified reports whether signature is that of message by key: Ed25519, RFC 8032 section 5.1.7, without the cofactor, as
// crypto/ed25519 does it (a test holds the two against each other). That package would also bring its random number generator and
// all that it is made of into PID 1, which never signs: 80 kB.
func verified(key [keySize]byte, message []byte, signature [signatureSize]byte) bool {
	a, err := new(edwards25519.Point).SetBytes(key[:])
	if err != nil {
		return false
	}
	s, err := new(edwards25519.Scalar).SetCanonicalBytes(signature[32:])
	if err != nil {
		return false
	}
	h := sha2.Sum512(signature[:32], key[:], message)
	k, err := new(edwards25519.Scalar).SetUniformBytes(h[:])
	if err != nil {
		return false
	}
	// R = [s]B - [k]A
	r := new(edwards25519.Point).VarTimeDoubleScalarBaseMult(k, a.Negate(a), s)
	return string(r.Bytes()) == string(signature[:32])
}
