// Package veritytest makes images for tests.
package veritytest

import (
	"encoding/hex"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"veneer/images"
	"veneer/images/verity"
)

// Image makes an image of so many blocks of noise, which their number decides, in a file, and returns its bytes too.
func Image(t *testing.T, blocks int) (img images.Image, file string, content []byte) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, blocks*verity.BlockSize)
	_, _ = rand.NewChaCha8([32]byte{byte(blocks)}).Read(data) // never fails
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	r, err := verity.Append(t.Context(), f, verity.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if content, err = os.ReadFile(f.Name()); err != nil {
		t.Fatal(err)
	}
	return images.Image{Role: images.RoleBase, Name: "base", ID: hex.EncodeToString(r.Root[:]), Size: r.Size, FileSystem: "squashfs",
		Verity: images.Verity{Algorithm: "sha256", BlockSize: verity.BlockSize, DataBlocks: r.DataBlocks, HashOffset: r.HashOffset}}, f.Name(), content
}
