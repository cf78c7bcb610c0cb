package disk

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"github.com/foxboron/go-uefi/efi/signature"
	"github.com/foxboron/go-uefi/efi/util"
	"github.com/foxboron/go-uefi/efivar"
)

// The keys of Secure Boot (UEFI 2.10, 32.3): db holds what programs are signed with, KEK may change db, PK may change KEK.
const (
	PlatformKey = "PK"
	ExchangeKey = "KEK"
	ProgramKey  = "db"
)

const (
	keyBits  = 2048          // what all firmware takes
	keyYears = 60            // firmware does not look at the end, tools do
	pemKey   = "PRIVATE KEY" // PKCS #8
	pemCert  = "CERTIFICATE"
)

// SecureBootKeys makes the three keys of one owner, and returns the files to be written, by their names: NAME.key (PEM, secret), NAME.crt
// (PEM), and NAME.auth, with which firmware in its setup mode, or systemd-boot, takes the key in (systemd-boot(7), "Secure Boot").
func SecureBootKeys(owner string) (map[string][]byte, error) {
	files := map[string][]byte{}
	signers := map[string]Signer{}
	for _, name := range []string{PlatformKey, ExchangeKey, ProgramKey} {
		s, err := newSigner(owner + " " + name)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", name, err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(s.Key)
		if err != nil {
			return nil, err
		}
		signers[name] = s
		files[name+".key"] = pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: private})
		files[name+".crt"] = pem.EncodeToMemory(&pem.Block{Type: pemCert, Bytes: s.Certificate.Raw})
	}
	// Who owns an entry of the lists; nothing but a name.
	sum := sha256.Sum256(signers[PlatformKey].Certificate.Raw)
	id := util.BytesToGUID(sum[:16])
	for _, v := range []struct {
		name, by string
		variable efivar.Efivar
	}{{PlatformKey, PlatformKey, efivar.PK}, {ExchangeKey, PlatformKey, efivar.KEK}, {ProgramKey, ExchangeKey, efivar.Db}} {
		list := signature.NewSignatureDatabase()
		if err := list.Append(signature.CERT_X509_GUID, *id, signers[v.name].Certificate.Raw); err != nil {
			return nil, fmt.Errorf("key %s: %w", v.name, err)
		}
		_, signed, err := signature.SignEFIVariable(v.variable, list, signers[v.by].Key, signers[v.by].Certificate)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", v.name, err)
		}
		var auth bytes.Buffer
		signed.Marshal(&auth)
		files[v.name+".auth"] = auth.Bytes()
	}
	return files, nil
}

func newSigner(name string) (Signer, error) {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return Signer{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return Signer{}, err
	}
	begin := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // before what the clock of a machine without a battery says
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: begin, NotAfter: begin.AddDate(keyYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return Signer{}, err
	}
	cert, err := x509.ParseCertificate(raw)
	return Signer{key, cert}, err
}
