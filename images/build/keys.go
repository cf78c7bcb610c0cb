package build

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"aead.dev/minisign"

	"veneer/images"
)

// Limits of what is read and written of minisign's files.
const (
	maxSecretKey      = 4 << 10
	maxTrustedComment = 1 << 10
	maxPassphrase     = 1022 // the longest line that minisign reads
)

// ErrNeedPassphrase means that a secret key is protected and nobody gave its passphrase. The caller may ask and load again.
var ErrNeedPassphrase = errors.New("the secret key is protected by a passphrase")

// Signer signs with a minisign secret key.
type Signer struct {
	path   string
	key    minisign.PrivateKey
	public images.PublicKey
}

// LoadSigner reads a secret key file as `minisign -G` writes it. It calls passphrase once if the key is protected, and never
// else; deriving the key takes about a second and 1 GiB of memory, as minisign chose it. Without passphrase it fails with
// ErrNeedPassphrase. A key whose two halves do not belong together is refused, for its signatures would give the secret away.
func LoadSigner(path string, passphrase func() ([]byte, error)) (*Signer, error) {
	fail := func(err error) (*Signer, error) { return nil, fmt.Errorf("secret key %s: %w", path, err) }
	text, err := readSmall(path, maxSecretKey)
	if err != nil {
		return nil, fmt.Errorf("secret key: %w", err)
	}
	if _, err := images.ParsePublicKey(text); err == nil {
		return fail(errors.New("this is a public key; signing needs the secret one, which 'veneer keygen' wrote beside it"))
	}
	s := &Signer{path: path}
	if minisign.IsEncrypted(text) {
		if passphrase == nil {
			return fail(fmt.Errorf("%w: give it with --passphrase-file", ErrNeedPassphrase))
		}
		secret, err := passphrase()
		if err != nil {
			return fail(fmt.Errorf("passphrase: %w", err))
		}
		if s.key, err = minisign.DecryptKey(string(secret), text); err != nil {
			return fail(errors.New("the passphrase is wrong, or the file is damaged"))
		}
	} else if err := s.key.UnmarshalText(bytes.TrimSpace(text)); err != nil {
		return fail(fmt.Errorf("not a minisign secret key: %w", err))
	}
	if s.public, err = publicKey(s.key); err != nil {
		return fail(err)
	}
	if _, err := s.Sign(nil, "self-test"); err != nil {
		return nil, err
	}
	return s, nil
}

// Sign returns the signature file for message. The same message and comment give the same bytes. The comment is one line of
// text that the signature covers; minisign -V shows it.
func (s *Signer) Sign(message []byte, trustedComment string) ([]byte, error) {
	if err := checkComment(trustedComment); err != nil {
		return nil, fmt.Errorf("trusted comment: %w", err)
	}
	r := minisign.NewReader(bytes.NewReader(message))
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, err
	}
	text := r.SignWithComments(s.key, trustedComment, "signature from minisign secret key "+s.public.ID.String())
	sig, err := images.ParseSignature(text)
	if err == nil {
		_, err = images.Verify(message, sig, s.public)
	}
	if err != nil {
		return nil, fmt.Errorf("secret key %s: its signature does not hold, the file is damaged: %w", s.path, err)
	}
	return text, nil
}

// Key returns the public key.
func (s *Signer) Key() images.PublicKey { return s.public }

// Public returns the public key file that belongs to the signer.
func (s *Signer) Public() []byte { return publicFile(s.key, "") }

// publicFile is a public key file. Its first line names the key as minisign does, and the comment.
func publicFile(key minisign.PrivateKey, comment string) []byte {
	id := strings.ToUpper(strconv.FormatUint(key.ID(), 16))
	if comment != "" {
		id += " " + comment
	}
	public := key.Public().(minisign.PublicKey)
	return []byte("untrusted comment: minisign public key " + id + "\n" + public.String() + "\n")
}

func publicKey(key minisign.PrivateKey) (images.PublicKey, error) {
	return images.ParsePublicKey(publicFile(key, ""))
}

// KeySpec says what GenerateKey makes.
type KeySpec struct {
	Path       string // of the secret key; the public key goes beside it, with .pub in the place of .key
	Passphrase []byte // protects the secret key; empty leaves it open to whoever can read the file
	Comment    string // for people, in the public key file
	Force      bool   // replace files that are there
}

// PublicPath is where GenerateKey puts the public key.
func (k KeySpec) PublicPath() string { return strings.TrimSuffix(k.Path, ".key") + ".pub" }

// Check reports why GenerateKey could not write the two files, before anybody is asked for a passphrase: no name, a directory
// that is missing or cannot be written, keys that are there. It writes nothing that stays.
func (k KeySpec) Check() error {
	if k.Path == "" || strings.HasSuffix(k.Path, "/") {
		return fmt.Errorf("secret key %q: want the name of a file", k.Path)
	}
	for _, path := range []string{k.Path, k.PublicPath()} {
		info, err := os.Lstat(path)
		switch {
		case err == nil && info.IsDir():
			return fmt.Errorf("%s is a directory: name a file in it", path)
		case err == nil && !k.Force:
			return fmt.Errorf("%s: %w; without the old key no update can be signed: choose another name with -o, or replace it with --force", path, os.ErrExist)
		}
	}
	return checkKeyDirectory(filepath.Dir(k.Path))
}

// checkKeyDirectory makes a file in dir and removes it: modes alone do not tell whether that works.
func checkKeyDirectory(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("directory %s for the keys: %w: make it (mkdir -p), or choose another place with -o", dir, os.ErrNotExist)
	case err != nil:
		return fmt.Errorf("directory for the keys: %w", err)
	case !info.IsDir():
		return fmt.Errorf("directory %s for the keys is a file: choose another place with -o", dir)
	}
	f, err := os.CreateTemp(dir, ".veneer-*")
	if err != nil {
		var why *os.PathError
		if errors.As(err, &why) {
			err = why.Err // its name means nothing to anybody
		}
		return fmt.Errorf("directory %s for the keys: nothing can be written there: %w; choose another place with -o", dir, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// CheckPassphrase reports why a passphrase cannot protect a key: minisign, which has to read the same key, takes one line.
func CheckPassphrase(secret []byte) error {
	switch {
	case len(secret) == 0:
		return errors.New("it is empty")
	case len(secret) > maxPassphrase:
		return fmt.Errorf("it is longer than the %d bytes that minisign reads", maxPassphrase)
	case bytes.ContainsAny(secret, "\x00\r\n"):
		return errors.New("it holds a NUL byte or an end of line: want one line of text")
	}
	return nil
}

// GenerateKey makes a key pair in the format of `minisign -G`, or `minisign -GW` without a passphrase. The secret key has mode
// 0600 from its first byte on. Each file appears at once and whole. One that is already there is left alone, with an
// error, unless Force is set.
func GenerateKey(spec KeySpec) (images.PublicKey, error) {
	var none images.PublicKey
	if err := checkComment(spec.Comment); err != nil {
		return none, fmt.Errorf("comment: %w", err)
	}
	if len(spec.Passphrase) > 0 {
		if err := CheckPassphrase(spec.Passphrase); err != nil {
			return none, fmt.Errorf("passphrase: %w", err)
		}
	}
	if err := spec.Check(); err != nil {
		return none, err
	}
	_, key, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		return none, fmt.Errorf("generate key: %w", err)
	}
	secret, err := key.MarshalText()
	if len(spec.Passphrase) > 0 {
		secret, err = minisign.EncryptKey(string(spec.Passphrase), key)
	}
	if err != nil {
		return none, fmt.Errorf("generate key: %w", err)
	}
	if err := placeFile(spec.Path, append(secret, '\n'), 0o600, spec.Force); err != nil {
		return none, fmt.Errorf("secret key: %w", err)
	}
	if err := placeFile(spec.PublicPath(), publicFile(key, spec.Comment), 0o644, spec.Force); err != nil {
		err = fmt.Errorf("public key: %w", err)
		if !spec.Force { // half a pair helps nobody, and would be in the way of the next try
			err = errors.Join(err, os.Remove(spec.Path))
		}
		return none, err
	}
	return publicKey(key)
}

// checkComment accepts what fits in the one line that a comment has.
func checkComment(s string) error {
	if len(s) > maxTrustedComment {
		return fmt.Errorf("%d bytes are more than %d", len(s), maxTrustedComment)
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }); i >= 0 {
		return fmt.Errorf("byte %d is not printable: a comment is one line of text", i)
	}
	return nil
}

// ReadPublicKey reads a public key file.
func ReadPublicKey(path string) (Key, error) {
	text, err := readSmall(path, maxPublicKey)
	if err != nil {
		return Key{}, fmt.Errorf("public key: %w", err)
	}
	key, err := images.ParsePublicKey(text)
	if err != nil {
		return Key{}, fmt.Errorf("%s: %w", path, err)
	}
	return Key{path, key.ID.String(), key}, nil
}
