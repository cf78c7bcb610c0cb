package images

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/blake2b"
)

// The minisign file formats, as its documentation and minisign(1) describe them:
//
//	public key   untrusted comment line, base64("Ed" | key ID | key)
//	signature    untrusted comment line, base64(algorithm | key ID | signature),
//	             trusted comment line, base64(signature over signature | trusted comment)
const (
	MaxSignature    = 16 << 10 // bytes of a signature file
	maxKeyFile      = 4 << 10
	untrustedPrefix = "untrusted comment: "
	trustedPrefix   = "trusted comment: "
)

// Signature algorithms: the message itself is signed, or its BLAKE2b-512 digest, which is what minisign does by default.
const (
	algorithmPure      = "Ed"
	algorithmPrehashed = "ED"
)

// ErrUnknownKey means that the signature was made with a key that is not trusted here.
var ErrUnknownKey = errors.New("signed with a key that is not trusted here")

// ErrBadSignature means that the key is trusted and the signature does not match: the message or the signature was changed.
var ErrBadSignature = errors.New("signature does not match: the file or its signature was changed")

// KeyID tells keys apart.
type KeyID [8]byte

// String returns the ID as minisign prints it.
func (id KeyID) String() string { return fmt.Sprintf("%X", binary.LittleEndian.Uint64(id[:])) }

// PublicKey is a minisign public key.
type PublicKey struct {
	ID  KeyID
	Key [keySize]byte
}

// ParsePublicKey reads a public key file, or the base64 line alone.
func ParsePublicKey(text []byte) (PublicKey, error) {
	var key PublicKey
	if len(text) > maxKeyFile {
		return key, fmt.Errorf("public key file of %d bytes is larger than %d", len(text), maxKeyFile)
	}
	lines := splitLines(text)
	if len(lines) > 0 && strings.HasPrefix(lines[0], untrustedPrefix) {
		lines = lines[1:]
	}
	if len(lines) != 1 {
		return key, errors.New("not a minisign public key: want an untrusted comment line and one line of base64")
	}
	raw, err := decode(lines[0], 2+8+keySize)
	if err != nil {
		return key, fmt.Errorf("minisign public key: %w", err)
	}
	if alg := string(raw[:2]); alg != algorithmPure {
		return key, fmt.Errorf("minisign public key: algorithm %q is not %q", alg, algorithmPure)
	}
	copy(key.ID[:], raw[2:])
	copy(key.Key[:], raw[10:])
	return key, nil
}

// Signature is a minisign signature.
type Signature struct {
	KeyID          KeyID
	TrustedComment string
	prehashed      bool
	signature      [signatureSize]byte
	global         [signatureSize]byte // over the signature and the trusted comment
}

// ParseSignature reads a signature file.
func ParseSignature(text []byte) (Signature, error) {
	var s Signature
	if len(text) > MaxSignature {
		return s, fmt.Errorf("signature file of %d bytes is larger than %d", len(text), MaxSignature)
	}
	lines := splitLines(text)
	if len(lines) != 4 {
		return s, fmt.Errorf("not a minisign signature: %d lines, want 4", len(lines))
	}
	if !strings.HasPrefix(lines[0], untrustedPrefix) {
		return s, fmt.Errorf("minisign signature: line 1 does not begin with %q", untrustedPrefix)
	}
	comment, ok := strings.CutPrefix(lines[2], trustedPrefix)
	if !ok {
		return s, fmt.Errorf("minisign signature: line 3 does not begin with %q", trustedPrefix)
	}
	raw, err := decode(lines[1], 2+8+signatureSize)
	if err != nil {
		return s, fmt.Errorf("minisign signature: line 2: %w", err)
	}
	global, err := decode(lines[3], signatureSize)
	if err != nil {
		return s, fmt.Errorf("minisign signature: line 4: %w", err)
	}
	switch alg := string(raw[:2]); alg {
	case algorithmPrehashed:
		s.prehashed = true
	case algorithmPure:
	default:
		return s, fmt.Errorf("minisign signature: unknown algorithm %q", alg)
	}
	copy(s.KeyID[:], raw[2:])
	copy(s.signature[:], raw[10:])
	copy(s.global[:], global)
	s.TrustedComment = comment
	return s, nil
}

// Verify returns the key, among keys, that signed message. It fails with ErrUnknownKey or ErrBadSignature. The trusted comment
// is covered too.
func Verify(message []byte, s Signature, keys ...PublicKey) (PublicKey, error) {
	known := false
	for _, key := range keys {
		if key.ID != s.KeyID {
			continue
		}
		known = true
		signed := message
		if s.prehashed {
			sum := blake2b.Sum512(message)
			signed = sum[:]
		}
		covered := append(bytes.Clone(s.signature[:]), s.TrustedComment...)
		if verified(key.Key, signed, s.signature) && verified(key.Key, covered, s.global) {
			return key, nil
		}
	}
	if known {
		return PublicKey{}, fmt.Errorf("key %s: %w", s.KeyID, ErrBadSignature)
	}
	trusted := make([]string, len(keys))
	for i, k := range keys {
		trusted[i] = k.ID.String()
	}
	if len(trusted) == 0 {
		trusted = []string{"none"}
	}
	return PublicKey{}, fmt.Errorf("key %s: %w (trusted: %s)", s.KeyID, ErrUnknownKey, strings.Join(trusted, ", "))
}

func splitLines(text []byte) []string {
	s := strings.ReplaceAll(string(text), "\r\n", "\n")
	s = strings.TrimSuffix(s, "\n")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

func decode(line string, want int) ([]byte, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(line)
	if err != nil {
		return nil, err
	}
	if len(raw) != want {
		return nil, fmt.Errorf("%d bytes, want %d", len(raw), want)
	}
	return raw, nil
}
