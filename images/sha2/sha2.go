// Package sha2 is SHA-256 and SHA-512, FIPS 180-4, in the plainest form: for PID 1, which hashes a few kilobytes, once.
//
// It guarantees the digests of crypto/sha256 and crypto/sha512, which tests and fuzzing hold it against. Those bring a cryptographic
// module with its self-tests, ciphers and random number generator into a program, docs/dependencies.md says how many bytes.
// Nothing here is secret, so nothing is done in constant time or wiped. What is not PID 1 uses the library's.
package sha2

import (
	"encoding/binary"
	"math/bits"
)

// Sizes of digests in bytes.
const (
	Size256 = 32
	Size512 = 64
)

// Sum256 returns the SHA-256 of the parts, one behind the other.
func Sum256(parts ...[]byte) (sum [Size256]byte) {
	h := [8]uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}
	var buf [64]byte
	stream(buf[:], 8, parts, func(block []byte) { block256(&h, block) })
	for i, v := range h {
		binary.BigEndian.PutUint32(sum[4*i:], v)
	}
	return sum
}

// Sum512 returns the SHA-512 of the parts, one behind the other.
func Sum512(parts ...[]byte) (sum [Size512]byte) {
	h := [8]uint64{0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
		0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179}
	var buf [128]byte
	stream(buf[:], 16, parts, func(block []byte) { block512(&h, block) })
	for i, v := range h {
		binary.BigEndian.PutUint64(sum[8*i:], v)
	}
	return sum
}

// stream cuts the parts into blocks of the size of buf and pads the last (section 5.1): a bit, zeros, and the number of bits in
// the last length bytes of a block, of which 8 are enough for anything that memory holds.
func stream(buf []byte, length int, parts [][]byte, block func([]byte)) {
	n, total := 0, uint64(0)
	for _, p := range parts {
		total += uint64(len(p))
		for len(p) > 0 {
			c := copy(buf[n:], p)
			n, p = n+c, p[c:]
			if n == len(buf) {
				block(buf)
				n = 0
			}
		}
	}
	buf[n] = 0x80
	clear(buf[n+1:])
	if n+1 > len(buf)-length {
		block(buf)
		clear(buf)
	}
	binary.BigEndian.PutUint64(buf[len(buf)-8:], total<<3)
	block(buf)
}

// block256 is section 6.2.2. Its constants are the upper halves of those of SHA-512.
func block256(h *[8]uint32, p []byte) {
	var w [64]uint32
	for t := range w {
		if t < 16 {
			w[t] = binary.BigEndian.Uint32(p[4*t:])
			continue
		}
		v1, v2 := w[t-2], w[t-15]
		s1 := bits.RotateLeft32(v1, -17) ^ bits.RotateLeft32(v1, -19) ^ v1>>10
		s0 := bits.RotateLeft32(v2, -7) ^ bits.RotateLeft32(v2, -18) ^ v2>>3
		w[t] = s1 + w[t-7] + s0 + w[t-16]
	}
	a, b, c, d, e, f, g, i := h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
	for t, wt := range w {
		s1 := bits.RotateLeft32(e, -6) ^ bits.RotateLeft32(e, -11) ^ bits.RotateLeft32(e, -25)
		t1 := i + s1 + (e&f ^ ^e&g) + uint32(k[t]>>32) + wt
		s0 := bits.RotateLeft32(a, -2) ^ bits.RotateLeft32(a, -13) ^ bits.RotateLeft32(a, -22)
		t2 := s0 + (a&b ^ a&c ^ b&c)
		i, g, f, e, d, c, b, a = g, f, e, d+t1, c, b, a, t1+t2
	}
	for n, v := range [8]uint32{a, b, c, d, e, f, g, i} {
		h[n] += v
	}
}

// block512 is section 6.4.2.
func block512(h *[8]uint64, p []byte) {
	var w [80]uint64
	for t := range w {
		if t < 16 {
			w[t] = binary.BigEndian.Uint64(p[8*t:])
			continue
		}
		v1, v2 := w[t-2], w[t-15]
		s1 := bits.RotateLeft64(v1, -19) ^ bits.RotateLeft64(v1, -61) ^ v1>>6
		s0 := bits.RotateLeft64(v2, -1) ^ bits.RotateLeft64(v2, -8) ^ v2>>7
		w[t] = s1 + w[t-7] + s0 + w[t-16]
	}
	a, b, c, d, e, f, g, i := h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
	for t, wt := range w {
		s1 := bits.RotateLeft64(e, -14) ^ bits.RotateLeft64(e, -18) ^ bits.RotateLeft64(e, -41)
		t1 := i + s1 + (e&f ^ ^e&g) + k[t] + wt
		s0 := bits.RotateLeft64(a, -28) ^ bits.RotateLeft64(a, -34) ^ bits.RotateLeft64(a, -39)
		t2 := s0 + (a&b ^ a&c ^ b&c)
		i, g, f, e, d, c, b, a = g, f, e, d+t1, c, b, a, t1+t2
	}
	for n, v := range [8]uint64{a, b, c, d, e, f, g, i} {
		h[n] += v
	}
}
