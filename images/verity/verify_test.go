package verity

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func flip(t *testing.T, f *os.File, offset int64) {
	t.Helper()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, offset); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyNamesTheFirstBadBlockAndCountsTheOthers(t *testing.T) {
	// 128*128+1 data blocks: level 1 has 129 blocks, level 2 has 2, level 3 has 1; on disk the top comes first.
	const blocks = 128*128 + 1
	f, r := image(t, blocks, 0, Options{})
	level3 := r.HashOffset + BlockSize
	level2 := level3 + BlockSize
	level1 := level2 + 2*BlockSize
	all := int64(blocks + 129 + 2 + 1)
	cases := []struct {
		name  string
		flips []int64
		want  CorruptError
		says  string
	}{
		{"first data block", []int64{0}, CorruptError{0, 0, 0, 0, 1, all}, "data block 0 (byte 0)"},
		{"last byte of the data", []int64{blocks*BlockSize - 1}, CorruptError{0, blocks - 1, (blocks - 1) * BlockSize, 0, 1, all}, "data block 16384"},
		{"three data blocks", []int64{9000 * BlockSize, 300 * BlockSize, 301*BlockSize + 7}, CorruptError{0, 300, 300 * BlockSize, 0, 3, all}, "3 data blocks and 0 hash blocks"},
		{"padding of a hash block", []int64{level1 + 129*BlockSize - 1}, CorruptError{1, 128, level1 + 128*BlockSize, 1, 0, all}, "hash block of level 1, number 128"},
		{"a hash of level 1", []int64{level1 + 5*BlockSize}, CorruptError{1, 5, level1 + 5*BlockSize, 1, 1, all}, "hash block of level 1, number 5"},
		{"a hash of level 2", []int64{level2}, CorruptError{2, 0, level2, 2, 0, all}, "hash block of level 2, number 0"},
		{"the top", []int64{level3 + 100}, CorruptError{3, 0, level3, 1, 0, all}, "hash block of level 3, number 0"},
		{"top and data", []int64{level3 + 100, 42 * BlockSize}, CorruptError{3, 0, level3, 1, 1, all}, "bad are 1 data block and 1 hash block"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, at := range c.flips {
				flip(t, f, at)
				defer flip(t, f, at)
			}
			err := Verify(context.Background(), f, r.Params, r.Root, nil)
			var got *CorruptError
			if !errors.As(err, &got) {
				t.Fatalf("Verify = %v, want a CorruptError", err)
			}
			if diff := cmp.Diff(&c.want, got); diff != "" {
				t.Errorf("Verify (-want +got):\n%s", diff)
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("Verify = %v, want %q", err, c.says)
			}
		})
	}
	if err := Verify(context.Background(), f, r.Params, r.Root, nil); err != nil {
		t.Errorf("Verify of the untouched image = %v", err)
	}
}

func TestVerifyRefusesAnotherRoot(t *testing.T) {
	for _, blocks := range []int64{1, 200} {
		f, r := image(t, blocks, 0, Options{})
		r.Root[31]++
		var corrupt *CorruptError
		if err := Verify(context.Background(), f, r.Params, r.Root, nil); !errors.As(err, &corrupt) || corrupt.Block != 0 {
			t.Errorf("Verify of %d blocks with another root = %v", blocks, err)
		}
	}
}

func TestVerifyDoesNotTrustItsParameters(t *testing.T) {
	f, r := image(t, 200, 0, Options{})
	for name, p := range map[string]Params{
		"no data":                  {0, r.HashOffset, nil},
		"negative data":            {-1, r.HashOffset, nil},
		"data beyond any file":     {1 << 62, 1 << 62, nil},
		"hashes in the data":       {200, 100 * BlockSize, nil},
		"hashes beyond any file":   {200, 1<<63 - 1, nil},
		"salt beyond a superblock": {200, r.HashOffset, make([]byte, 257)},
	} {
		if err := Verify(context.Background(), f, p, r.Root, nil); err == nil || !strings.Contains(err.Error(), "out of bounds") {
			t.Errorf("Verify with %s = %v", name, err)
		}
	}
	if err := Verify(context.Background(), f, Params{1 << 40, 1 << 52, nil}, r.Root, nil); !errors.Is(err, io.EOF) {
		t.Errorf("Verify of a tree far behind the end = %v, want EOF", err)
	}
	if err := f.Truncate(r.Size - BlockSize); err != nil {
		t.Fatal(err)
	}
	if err := Verify(context.Background(), f, r.Params, r.Root, nil); !errors.Is(err, io.EOF) {
		t.Errorf("Verify of a cut file = %v, want EOF", err)
	}
}

func TestVerifyStopsWhenAsked(t *testing.T) {
	f, r := image(t, 5000, 0, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	err := Verify(ctx, f, r.Params, r.Root, func(int64, int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Verify = %v, want Canceled", err)
	}
}
