package initramfs

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// MaxPins bounds the images of others that an initramfs names.
const MaxPins = 256

// CheckPin reports whether s names an image of others by its content: sha256: and 64 hex digits in lower case.
func CheckPin(s string) error {
	digest, ok := strings.CutPrefix(s, "sha256:")
	if b, err := hex.DecodeString(digest); !ok || err != nil || len(b) != 32 || digest != strings.ToLower(digest) {
		return fmt.Errorf("%.100q: want sha256: and the 64 hex digits that sha256sum prints", s)
	}
	return nil
}
