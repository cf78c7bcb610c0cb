package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"veneer/images"
	"veneer/images/copyin"
	"veneer/images/verity"
	"veneer/images/verity/veritytest"
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestACopyHasTheBytesOfTheMediumWhateverTheirNumber(t *testing.T) {
	for _, blocks := range []int{1, 2, 255, 256, 257, 1500} {
		for _, unverified := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d blocks, unverified %v", blocks, unverified), func(t *testing.T) {
				img, from, _ := veritytest.Image(t, blocks)
				to, last := filepath.Join(t.TempDir(), "copy"), int64(0)
				err := Linux{}.Copy(t.Context(), Copying{From: from, To: to, Image: img, Unverified: unverified, Progress: func(at int64) {
					if at <= last {
						t.Errorf("progress went from %d to %d", last, at)
					}
					last = at
				}})
				if err != nil || !bytes.Equal(read(t, from), read(t, to)) || last != img.Size {
					t.Errorf("Copy() = %v, %d of %d bytes told", err, last, img.Size)
				}
			})
		}
	}
}

func TestAMediumThatIsWrongIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, name string, img *images.Image)
		want  string
		wrong bool
	}{
		"a byte":                  {func(t *testing.T, name string, _ *images.Image) { flip(t, name, 700*verity.BlockSize+3) }, "data block 700 (byte 2867200) does not match its hash", true},
		"a byte of the hash tree": {func(t *testing.T, name string, img *images.Image) { flip(t, name, img.Size-verity.BlockSize+1) }, "hash block of level 1", true},
		"cut short": {func(t *testing.T, name string, img *images.Image) {
			if err := os.Truncate(name, img.Size-1); err != nil {
				t.Fatal(err)
			}
		}, "the manifest says", false},
		"a directory": {func(t *testing.T, name string, _ *images.Image) {
			if err := errors.Join(os.Remove(name), os.Mkdir(name, 0o755)); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file", false},
		"a fifo that nobody writes": {func(t *testing.T, name string, _ *images.Image) {
			if err := errors.Join(os.Remove(name), unix.Mkfifo(name, 0o644)); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file", false},
		"not there": {func(t *testing.T, name string, _ *images.Image) {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}, "no such file", false},
	} {
		t.Run(name, func(t *testing.T) {
			img, from, _ := veritytest.Image(t, 1500)
			c.spoil(t, from, &img)
			err := Linux{}.Copy(t.Context(), Copying{From: from, To: filepath.Join(t.TempDir(), "copy"), Image: img, Progress: func(int64) {}})
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, copyin.ErrWrong) != c.wrong {
				t.Errorf("Copy() = %v, want %q", err, c.want)
			}
		})
	}
}

func flip(t *testing.T, name string, at int64) {
	t.Helper()
	b := read(t, name)
	b[at] ^= 1
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestACopyEndsWithItsContext(t *testing.T) {
	img, from, _ := veritytest.Image(t, 1500)
	ctx, cancel := context.WithCancel(t.Context())
	err := Linux{}.Copy(ctx, Copying{From: from, To: filepath.Join(t.TempDir(), "copy"), Image: img, Progress: func(int64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Copy() = %v, want Canceled", err)
	}
}

func TestTheMeterTellsShareSpeedAndRestOnceASecond(t *testing.T) {
	start := time.Unix(0, 0)
	m := newMeter(400<<20, start)
	for _, c := range []struct {
		at    int64
		after time.Duration
		want  string
	}{
		{50 << 20, 900 * time.Millisecond, ""},
		{100 << 20, 4 * time.Second, "25% of 400 MiB, 26.2 MB/s, 12s left"},
		{110 << 20, 4900 * time.Millisecond, ""},
		{200 << 20, 8 * time.Second, "50% of 400 MiB, 26.2 MB/s, 8s left"},
	} {
		if got := m.at(c.at, start.Add(c.after)); got != c.want {
			t.Errorf("at %d after %s: %q, want %q", c.at, c.after, got, c.want)
		}
	}
	if got := m.end(400<<20, start.Add(16*time.Second)); got != "400 MiB in 16s, 26.2 MB/s" {
		t.Errorf("the last line is %q", got)
	}
}
