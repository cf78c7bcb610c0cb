package verity

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sizes are counts of data blocks around which the shape of the tree changes.
var sizes = []int64{1, 2, 127, 128, 129, 128 * 128, 128*128 + 1}

// image makes a file of random data, the last cut bytes of its last block missing, and appends its tree.
func image(t testing.TB, blocks, cut int64, opts Options) (*os.File, Result) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	data := make([]byte, blocks*BlockSize-cut)
	_, _ = rand.NewChaCha8([32]byte{byte(blocks)}).Read(data) // never fails
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	r, err := Append(context.Background(), f, opts)
	if err != nil {
		t.Fatal(err)
	}
	return f, r
}

func veritysetup(t *testing.T, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("veritysetup"); err != nil {
		t.Skip("veritysetup is not installed: apt install cryptsetup-bin")
	}
	out, err := exec.Command("veritysetup", args...).CombinedOutput()
	return string(out), err
}

func TestVeritysetupAgreesOnEachByte(t *testing.T) {
	for _, blocks := range append(sizes, 25600) {
		for _, salt := range [][]byte{nil, []byte("salt of some bytes")} {
			t.Run(fmt.Sprintf("%d blocks, salt of %d bytes", blocks, len(salt)), func(t *testing.T) {
				ours, r := image(t, blocks, 0, Options{Salt: salt})
				want, err := os.ReadFile(ours.Name())
				if err != nil {
					t.Fatal(err)
				}
				if int64(len(want)) != r.Size {
					t.Errorf("file has %d bytes, Size = %d", len(want), r.Size)
				}
				text := "-"
				if salt != nil {
					text = hex.EncodeToString(salt)
				}
				id := hex.EncodeToString(want[r.HashOffset+16 : r.HashOffset+32])
				id = strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-")
				theirs := filepath.Join(t.TempDir(), "theirs")
				if err := os.WriteFile(theirs, want[:r.HashOffset], 0o644); err != nil {
					t.Fatal(err)
				}
				offset := fmt.Sprintf("--hash-offset=%d", r.HashOffset)
				out, err := veritysetup(t, "format", theirs, theirs, offset, fmt.Sprintf("--data-blocks=%d", blocks), "--salt="+text, "--uuid="+id)
				if err != nil || !strings.Contains(out, hex.EncodeToString(r.Root[:])) {
					t.Fatalf("veritysetup format: %v, want root %x in\n%s", err, r.Root, out)
				}
				got, err := os.ReadFile(theirs)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want[:len(got)]) || len(bytes.Trim(want[len(got):], "\x00")) > 0 {
					t.Error("veritysetup format wrote other bytes")
				}
				if out, err := veritysetup(t, "verify", ours.Name(), ours.Name(), hex.EncodeToString(r.Root[:]), offset); err != nil {
					t.Errorf("veritysetup verify: %v\n%s", err, out)
				}
				out, err = veritysetup(t, "dump", ours.Name(), offset)
				if err != nil || !strings.Contains(out, fmt.Sprintf("Data blocks:     \t%d\n", blocks)) || !strings.Contains(out, id) {
					t.Errorf("veritysetup dump: %v\n%s", err, out)
				}
				if root, err := Root(ours, r.Params); err != nil || root != r.Root {
					t.Errorf("Root() = %x, %v; want %x", root, err, r.Root)
				}
			})
		}
	}
}

func TestTreeDependsOnTheDataAlone(t *testing.T) {
	a, first := image(t, 129, 0, Options{})
	b, second := image(t, 129, 0, Options{})
	x, _ := os.ReadFile(a.Name())
	y, _ := os.ReadFile(b.Name())
	if first.Root != second.Root || !bytes.Equal(x, y) {
		t.Error("the same data gave two images")
	}
}

func TestLastBlockIsPaddedWithZeros(t *testing.T) {
	f, r := image(t, 3, 4000, Options{})
	content, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if r.DataBlocks != 3 || r.HashOffset != 3*BlockSize || len(bytes.Trim(content[3*BlockSize-4000:3*BlockSize], "\x00")) > 0 {
		t.Errorf("Append = %+v", r.Params)
	}
	if err := Verify(context.Background(), f, r.Params, r.Root, nil); err != nil {
		t.Error(err)
	}
}

func TestAppendRefusesWhatHasNoTree(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "empty"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Append(context.Background(), f, Options{}); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("Append to an empty file = %v", err)
	}
	if _, err := f.Write(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if _, err := Append(context.Background(), f, Options{Salt: make([]byte, 257)}); err == nil || !strings.Contains(err.Error(), "salt") {
		t.Errorf("Append with a long salt = %v", err)
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	if _, err := Append(done, f, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Append after the end = %v, want Canceled", err)
	}
}

func TestProgressEndsAtTheTotal(t *testing.T) {
	var last, total int64
	watch := func(d, n int64) {
		if d <= last {
			t.Errorf("progress went from %d to %d", last, d)
		}
		last, total = d, n
	}
	f, r := image(t, 1000, 0, Options{Progress: watch})
	if last != total || total != 1000*BlockSize {
		t.Errorf("Append ended at %d of %d", last, total)
	}
	last = 0
	if err := Verify(context.Background(), f, r.Params, r.Root, watch); err != nil || last != total {
		t.Errorf("Verify = %v, ended at %d of %d", err, last, total)
	}
}

func BenchmarkAppend(b *testing.B) {
	f, r := image(b, 64<<20/BlockSize, 0, Options{})
	b.SetBytes(r.HashOffset)
	for b.Loop() {
		if err := f.Truncate(r.HashOffset); err != nil {
			b.Fatal(err)
		}
		if _, err := Append(context.Background(), f, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
