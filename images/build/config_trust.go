package build

// maxTPMEpoch is how high a TPM counts; package tpm says why.
const maxTPMEpoch = 256

func (c *Config) checkTrust(bad func(key, format string, args ...any)) {
	switch c.Trust.TPM {
	case "none":
		return
	case "wanted", "required":
	default:
		bad("trust.tpm", "%q is none of none, wanted, required", c.Trust.TPM)
		return
	}
	if c.Epoch > maxTPMEpoch {
		bad("epoch", "%d: with trust.tpm it is at most %d, since a TPM keeps it in so many bits; raise it by one for each release that must not be gone back behind", c.Epoch, maxTPMEpoch)
	}
}
