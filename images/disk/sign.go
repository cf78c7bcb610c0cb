package disk

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/foxboron/go-uefi/authenticode"
	"github.com/foxboron/go-uefi/pkcs7"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Signer signs EFI programs for Secure Boot.
type Signer struct {
	Key         *rsa.PrivateKey
	Certificate *x509.Certificate
}

// ParseSigner reads a private key (PKCS #8 or #1) and its certificate, both PEM, as openssl writes them and sbsign takes them.
func ParseSigner(key, certificate []byte) (Signer, error) {
	block, _ := pem.Decode(certificate)
	if block == nil || block.Type != "CERTIFICATE" {
		return Signer{}, errors.New("certificate: want PEM of a CERTIFICATE")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return Signer{}, fmt.Errorf("certificate: %w", err)
	}
	if block, _ = pem.Decode(key); block == nil {
		return Signer{}, errors.New("key: want PEM of a PRIVATE KEY")
	}
	var private any
	if private, err = x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
		if private, err = x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
			return Signer{}, errors.New("key: want an RSA key in PKCS #8 or PKCS #1, without a passphrase")
		}
	}
	rsaKey, ok := private.(*rsa.PrivateKey)
	if !ok {
		return Signer{}, errors.New("key: want an RSA key: firmware takes no other")
	}
	if !rsaKey.PublicKey.Equal(cert.PublicKey) {
		return Signer{}, errors.New("the certificate is not that of the key")
	}
	return Signer{rsaKey, cert}, nil
}

// Sign returns an EFI program with a signature (Authenticode over SHA-256) in the place of any that it had.
//
// The signature is PKCS #7 without attributes: those would hold the time of signing, and make each build another. Firmware (UEFI
// 2.10, 32.2.3), shim and sbverify take it like any.
func (s Signer) Sign(program []byte) ([]byte, error) {
	program, err := Unsigned(program)
	if err != nil {
		return nil, err
	}
	image, err := authenticode.Parse(bytes.NewReader(program))
	if err != nil {
		return nil, err
	}
	content, err := authenticode.CreateSpcIndirectDataContent(image.Hash(crypto.SHA256), crypto.SHA256)
	if err != nil {
		return nil, err
	}
	signature, err := s.signedData(content)
	if err != nil {
		return nil, err
	}
	if err := image.AppendSignature(signature); err != nil {
		return nil, err
	}
	signed := image.Bytes()
	p, err := parse(signed)
	if err != nil {
		return nil, err
	}
	le.PutUint32(signed[p.at+atChecksum:], checksum(signed, p.at+atChecksum))
	return signed, nil
}

// Unsigned returns an EFI program without its signature, ready for another.
func Unsigned(program []byte) ([]byte, error) {
	p, err := parse(program)
	if err != nil {
		return nil, err
	}
	entry := p.at + atCertificates
	at, size := le.Uint32(program[entry:]), le.Uint32(program[entry+4:])
	bare := bytes.Clone(program)
	if at != 0 || size != 0 {
		if uint64(at)+uint64(size) != uint64(len(program)) || at < uint32(len(p.head)) {
			return nil, errors.New("the signature of the program does not lie at its end")
		}
		bare = bare[:at]
		clear(bare[entry : entry+8])
	}
	for len(bare)%certificateAlign != 0 {
		bare = append(bare, 0)
	}
	le.PutUint32(bare[p.at+atChecksum:], checksum(bare, p.at+atChecksum))
	return bare, nil
}

// signedData is a SignedData of PKCS #7 (RFC 2315) around the content of an SpcIndirectDataContent.
func (s Signer) signedData(content []byte) ([]byte, error) {
	sum := sha256.Sum256(content)
	signature, err := rsa.SignPKCS1v15(nil, s.Key, crypto.SHA256, sum[:])
	if err != nil {
		return nil, err
	}
	explicit := asn1.Tag(0).ContextSpecific().Constructed()
	sha256ID := func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(pkcs7.OIDDigestAlgorithmSHA256)
		b.AddASN1NULL()
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(pkcs7.OIDSignedData)
		b.AddASN1(explicit, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) { b.AddASN1(asn1.SEQUENCE, sha256ID) })
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(authenticode.OIDSpcIndirectDataContent)
					b.AddASN1(explicit, func(b *cryptobyte.Builder) {
						b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(content) })
					})
				})
				b.AddASN1(explicit, func(b *cryptobyte.Builder) { b.AddBytes(s.Certificate.Raw) })
				b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1Int64(1)
						b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
							b.AddBytes(s.Certificate.RawIssuer)
							b.AddASN1BigInt(s.Certificate.SerialNumber)
						})
						b.AddASN1(asn1.SEQUENCE, sha256ID)
						b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
							b.AddASN1ObjectIdentifier(pkcs7.OIDEncryptionAlgorithmRSA)
							b.AddASN1NULL()
						})
						b.AddASN1OctetString(signature)
					})
				})
			})
		})
	})
	return b.Bytes()
}
