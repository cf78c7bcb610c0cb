package verity

import (
	"errors"
	"io"
	"os"
	"testing"
)

// through writes content to a new stream in pieces of a size, and returns the first error.
func through(t *testing.T, r Result, content []byte, piece int) error {
	t.Helper()
	s, err := NewStream(r.Params, r.Root)
	if err != nil {
		t.Fatal(err)
	}
	for len(content) > 0 {
		n := min(piece, len(content))
		if _, err := s.Write(content[:n]); err != nil {
			return err
		}
		content = content[n:]
	}
	return s.Close()
}

func TestAStreamTakesWhatAppendMadeInPiecesOfAnySize(t *testing.T) {
	for _, blocks := range []int64{1, 2, 128, 129, 128*128 + 1} {
		for _, salt := range [][]byte{nil, []byte("salt")} {
			f, r := image(t, blocks, 0, Options{Salt: salt})
			content, err := os.ReadFile(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			for _, piece := range []int{1 << 20, 4096, 5000, 64<<10 + 1} {
				if err := through(t, r, content, piece); err != nil {
					t.Errorf("%d blocks with salt %q in pieces of %d: %v", blocks, salt, piece, err)
				}
			}
		}
	}
}

func TestAStreamRefusesWhatIsNotTheImage(t *testing.T) {
	f, r := image(t, 300, 0, Options{})
	content, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]int64{"the first byte": 0, "the last byte of the data": 300*BlockSize - 1,
		"the top of the tree": r.HashOffset + BlockSize, "the padding of the tree": r.Size - 1} {
		content[at] ^= 1
		if err := through(t, r, content, 7000); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s was changed: %v, want ErrMismatch", name, err)
		}
		content[at] ^= 1
	}
	if err := through(t, r, content[:len(content)-1], 7000); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut short by a byte: %v, want io.ErrUnexpectedEOF", err)
	}
	if err := through(t, r, append(content, 0), 7000); !errors.Is(err, ErrMismatch) {
		t.Errorf("longer by a byte: %v, want ErrMismatch", err)
	}
	if err := through(t, r, content, 7000); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

func BenchmarkStream(b *testing.B) {
	p := Params{DataBlocks: maxBlocks, HashOffset: maxBlocks * BlockSize}
	buf := make([]byte, 1<<20)
	b.SetBytes(int64(len(buf)))
	s, err := NewStream(p, [32]byte{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
}
