package vmtests

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// file is a file of an archive that a case makes; one that ends in a slash is a directory.
type file struct{ name, content string }

// archive writes a tar archive with these files, owned by root, and the directories above them. The same files have the
// same path and bytes, so that what is built of them is found again.
func archive(t *testing.T, name string, files ...file) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	seen := map[string]bool{".": true}
	add := func(h tar.Header, content string) {
		h.ModTime = time.Unix(1_700_000_000, 0)
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755}, "")
	for _, f := range files {
		for i, c := range f.name {
			if dir := f.name[:i]; c == '/' && !seen[dir] {
				seen[dir] = true
				add(tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}, "")
			}
		}
		if f.name[len(f.name)-1] != '/' {
			add(tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o755}, f.content)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b.Bytes())
	path := filepath.Join(shared.scratch, name+"-"+hex.EncodeToString(sum[:6])+".tar")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// noise returns bytes that no compressor makes smaller, so that they are found in an image as they are. The same size gives
// the same bytes.
func noise(size int) []byte {
	r := rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16)})
	b := make([]byte, size)
	_, _ = r.Read(b) // never fails
	return b
}

func indexOf(t *testing.T, text, part []byte) int64 {
	t.Helper()
	at := bytes.Index(text, part)
	if at < 0 {
		t.Fatal("the bytes are not in the image as they are")
	}
	return int64(at)
}

func contains(text, pattern string) bool { return regexp.MustCompile(pattern).MatchString(text) }
