package images

import (
	"crypto/ed25519"
	"crypto/rand"
	"testing"
)

// The standard library's own check is what ours is held against.
func same(t *testing.T, key [keySize]byte, message []byte, signature [signatureSize]byte) {
	t.Helper()
	if got, want := verified(key, message, signature), ed25519.Verify(key[:], message, signature[:]); got != want {
		t.Errorf("verified(%x, %x, %x) = %v, crypto/ed25519 says %v", key, message, signature, got, want)
	}
}

func TestSignaturesAreJudgedAsTheStandardLibraryDoes(t *testing.T) {
	public, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("a manifest")
	key, signature := [keySize]byte(public), [signatureSize]byte(ed25519.Sign(secret, message))
	if !verified(key, message, signature) {
		t.Error("a good signature is refused")
	}
	same(t, key, message, signature)
	same(t, key, []byte("another"), signature)
	for bit := range 8 * signatureSize {
		bad := signature
		bad[bit/8] ^= 1 << (bit % 8)
		same(t, key, message, bad)
		if verified(key, message, bad) {
			t.Errorf("a signature with bit %d flipped is accepted", bit)
		}
	}
	for bit := range 8 * keySize {
		bad := key
		bad[bit/8] ^= 1 << (bit % 8)
		same(t, bad, message, signature)
	}
	// The order of the group, added to s: another signature for who does not insist on the canonical one.
	order := [32]byte{0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 31: 0x10}
	malleable, carry := signature, 0
	for i := range 32 {
		sum := int(signature[32+i]) + int(order[i]) + carry
		malleable[32+i], carry = byte(sum), sum>>8
	}
	same(t, key, message, malleable)
	if verified(key, message, malleable) {
		t.Error("a signature that is not canonical is accepted")
	}
	for _, small := range [][keySize]byte{{}, {1}, {0xec, 0xff}, {31: 0x80}} { // points of small order, or none at all
		same(t, small, message, signature)
		same(t, small, message, [signatureSize]byte{1})
	}
}

func FuzzSignaturesAreJudgedAsTheStandardLibraryDoes(f *testing.F) {
	f.Add(make([]byte, keySize), []byte("m"), make([]byte, signatureSize))
	f.Fuzz(func(t *testing.T, key, message, signature []byte) {
		if len(key) == keySize && len(signature) == signatureSize {
			same(t, [keySize]byte(key), message, [signatureSize]byte(signature))
		}
	})
}
