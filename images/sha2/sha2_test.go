package sha2

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"testing"
)

// The examples of NIST for FIPS 180-4 (csrc.nist.gov, "Examples with Intermediate Values").
func TestTheExamplesOfNISTHaveTheirDigests(t *testing.T) {
	for _, c := range []struct{ message, sum256, sum512 string }{
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
			"ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
			"204a8fc6dda82f0a0ced7beb8e08a41657c16ef468b228a8279be331a703c33596fd15c13b1b07f9aa1d3bea57789ca031ad85c7a71dd70354ec631238ca3445"},
		{"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
			"cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
			"8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909"},
		{string(bytes.Repeat([]byte("a"), 1_000_000)), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
			"e718483d0ce769644e2e42c7bc15b4638e1f98b13b2044285632a803afa973ebde0ff244877ea60a4cb0432ce577c31beb009c5c2c49aa2e4eadb217ad8cc09b"},
	} {
		name := c.message[:min(len(c.message), 10)]
		if got := Sum256([]byte(c.message)); hex.EncodeToString(got[:]) != c.sum256 {
			t.Errorf("Sum256(%q...) = %x, want %s", name, got, c.sum256)
		}
		if got := Sum512([]byte(c.message)); hex.EncodeToString(got[:]) != c.sum512 {
			t.Errorf("Sum512(%q...) = %x, want %s", name, got, c.sum512)
		}
	}
}

func TestEveryLengthAroundABlockHasTheDigestOfTheLibrary(t *testing.T) {
	message := make([]byte, 300)
	for i := range message {
		message[i] = byte(i * 7)
	}
	for n := range message {
		same(t, message[:n], n/3, n/2)
	}
}

func FuzzDigestsAreThoseOfTheLibrary(f *testing.F) {
	f.Add([]byte("abc"), 1, 2)
	f.Add(make([]byte, 256), 64, 192)
	f.Fuzz(func(t *testing.T, message []byte, a, b int) { same(t, message, a, b) })
}

// same compares the digests of a message, in one piece and cut at a and b.
func same(t *testing.T, message []byte, a, b int) {
	t.Helper()
	a = max(0, min(a, len(message)))
	b = max(a, min(b, len(message)))
	want256, want512 := sha256.Sum256(message), sha512.Sum512(message)
	if Sum256(message) != want256 || Sum256(message[:a], message[a:b], message[b:]) != want256 {
		t.Errorf("Sum256 of %d bytes, cut at %d and %d, is not that of crypto/sha256: %x", len(message), a, b, message)
	}
	if Sum512(message) != want512 || Sum512(message[:a], message[a:b], message[b:]) != want512 {
		t.Errorf("Sum512 of %d bytes, cut at %d and %d, is not that of crypto/sha512: %x", len(message), a, b, message)
	}
}
