package copyin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"veneer/images"
	"veneer/images/verity"
	"veneer/images/verity/veritytest"
)

func newCopy(t *testing.T, img images.Image, holds []byte) (*Copy, string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "part")
	if err := os.WriteFile(name, holds, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	c, err := New(f, img)
	if err != nil {
		t.Fatal(err)
	}
	return c, name
}

func TestACopyIsTheImage(t *testing.T) {
	img, _, content := veritytest.Image(t, 700)
	c, name := newCopy(t, img, nil)
	if err := c.From(t.Context(), iotest.HalfReader(bytes.NewReader(append(content, "behind its end"...)))); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the copy has %d bytes, %v, and is not the image of %d", len(got), err, len(content))
	}
}

func TestAChangedByteIsRefusedBeforeTheEnd(t *testing.T) {
	img, _, content := veritytest.Image(t, 700)
	for _, at := range []int{0, 699*verity.BlockSize + 5, len(content) - 1} {
		c, _ := newCopy(t, img, nil)
		content[at] ^= 4
		if err := c.From(t.Context(), bytes.NewReader(content)); !errors.Is(err, ErrWrong) {
			t.Errorf("byte %d was changed: %v, want ErrWrong", at, err)
		}
		content[at] ^= 4
	}
}

func TestTheWrongBlockIsNamedWhereTheSourceCanBeReadAgain(t *testing.T) {
	img, _, content := veritytest.Image(t, 700)
	for name, c := range map[string]struct {
		at   int
		want string
	}{
		"in the middle of the data": {300*verity.BlockSize + 9, "data block 300 (byte 1228800) does not match its hash"},
		"in the last piece":         {699 * verity.BlockSize, "data block 699"},
		"in the hash tree":          {len(content) - 1, "hash block of level 1"},
		"and right the second time": {0, "read a second time it is right"},
	} {
		t.Run(name, func(t *testing.T) {
			wrong := bytes.Clone(content)
			wrong[c.at] ^= 4
			cp, _ := newCopy(t, img, nil)
			if err := cp.From(t.Context(), bytes.NewReader(wrong)); !errors.Is(err, ErrWrong) {
				t.Fatalf("From() = %v, want ErrWrong", err)
			}
			source := wrong
			if c.at == 0 {
				source = content
				if err := cp.file.Truncate(0); err != nil {
					t.Fatal(err)
				}
			}
			alive := 0
			err := cp.Blame(t.Context(), bytes.NewReader(source), func() { alive++ })
			if err == nil || !strings.Contains(err.Error(), c.want) || alive == 0 {
				t.Errorf("Blame() = %v, alive %d times, want %q", err, alive, c.want)
			}
		})
	}
}

func TestACutCopyIsResumedWhereItEnded(t *testing.T) {
	img, _, content := veritytest.Image(t, 700)
	for name, held := range map[string]int{"nothing": 0, "a part": 300*verity.BlockSize + 77, "all of the data": 700 * verity.BlockSize, "all but a byte": len(content) - 1, "all": len(content)} {
		t.Run(name, func(t *testing.T) {
			c, file := newCopy(t, img, content[:held])
			at, err := c.Resume(t.Context())
			if err != nil || at != int64(held) {
				t.Fatalf("Resume() = %d, %v, want %d", at, err, held)
			}
			if err := c.From(t.Context(), bytes.NewReader(content[at:])); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, content) {
				t.Errorf("the copy is not the image, %v", err)
			}
		})
	}
}

func TestWhatAPowerCutMayHaveLeftUnwrittenIsFetchedAgain(t *testing.T) {
	img, _, content := veritytest.Image(t, 3000)
	holed := bytes.Clone(content[:11<<20])
	clear(holed[8<<20:]) // the file had its length already, and its data not yet
	c, file := newCopy(t, img, holed)
	c.Durable = true
	at, err := c.Resume(t.Context())
	if err != nil || at != 6<<20 {
		t.Fatalf("Resume() = %d, %v, want %d", at, err, 6<<20)
	}
	if err := c.From(t.Context(), bytes.NewReader(content[at:])); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the copy is not the image, %v", err)
	}
}

func TestWhatIsNoBeginningOfTheImageIsThrownAway(t *testing.T) {
	img, _, content := veritytest.Image(t, 700)
	wrong := bytes.Clone(content)
	wrong[8] ^= 1
	c, _ := newCopy(t, img, wrong[:700*verity.BlockSize])
	if at, err := c.Resume(t.Context()); err != nil || at != 0 {
		t.Errorf("Resume() of wrong data = %d, %v, want 0", at, err)
	}
	c, _ = newCopy(t, img, append(content, 0))
	if at, err := c.Resume(t.Context()); err != nil || at != 0 {
		t.Errorf("Resume() of a longer file = %d, %v, want 0", at, err)
	}
	// What is too short to tell is told at the end, and then a restart mends it.
	c, _ = newCopy(t, img, wrong[:9000])
	if at, err := c.Resume(t.Context()); err != nil || at != 9000 {
		t.Fatalf("Resume() = %d, %v, want 9000", at, err)
	}
	if err := c.From(t.Context(), bytes.NewReader(content[9000:])); !errors.Is(err, ErrWrong) {
		t.Fatalf("From() behind a wrong beginning = %v, want ErrWrong", err)
	}
	if err := c.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := c.From(t.Context(), bytes.NewReader(content)); err != nil {
		t.Errorf("From() after a restart = %v", err)
	}
}

func TestASourceThatEndsEarlyIsToldFromOneThatIsWrong(t *testing.T) {
	img, _, content := veritytest.Image(t, 4)
	c, _ := newCopy(t, img, nil)
	if err := c.From(t.Context(), bytes.NewReader(content[:len(content)-1])); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrWrong) {
		t.Errorf("From() = %v, want io.ErrUnexpectedEOF", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.From(ctx, bytes.NewReader(content)); !errors.Is(err, context.Canceled) {
		t.Errorf("From() = %v after its context ended", err)
	}
}

func TestASetThatDoesNotFitIsRefusedBeforeItIsCopied(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name string
		b    Budget
		room int64
		fits bool
	}{
		{"plenty", Budget{100 * mib, 512 * mib, 0, 2048 * mib}, 512 * mib, true},
		{"an upper that has to be smaller", Budget{256 * mib, 512 * mib, 0, 512 * mib}, 512*mib - 261*mib - Floor, true},
		{"no upper in memory", Budget{256 * mib, 0, 0, 357 * mib}, 0, true},
		{"too large", Budget{900 * mib, 512 * mib, 0, 950 * mib}, 0, false},
		{"the least upper does not fit", Budget{256 * mib, 512 * mib, 0, 380 * mib}, 0, false},
		{"an upper that is to be had whole", Budget{256 * mib, 512 * mib, 512 * mib, 512 * mib}, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			room, err := c.b.Room()
			if (err == nil) != c.fits || room != c.room || err != nil && !errors.Is(err, ErrNoRoom) {
				t.Errorf("Room() = %d, %v, want %d, fits %v", room, err, c.room, c.fits)
			}
		})
	}
}
