package images

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestWhatABlessWroteIsReadAgain(t *testing.T) {
	for _, b := range []Blessed{{}, {Epoch: 7}, {7, true}, {0, true}, {1<<64 - 1, false}} {
		got, err := ReadBlessed(fstest.MapFS{EpochPath(): {Data: b.Encode()}})
		if err != nil || got != b {
			t.Errorf("ReadBlessed(%q) = %+v, %v; want %+v", b.Encode(), got, err, b)
		}
	}
	if got, err := ReadBlessed(fstest.MapFS{}); err != nil || got != (Blessed{}) {
		t.Errorf("without a file ReadBlessed = %+v, %v", got, err)
	}
}

func TestAnEpochFileThatNoBlessWroteIsAnError(t *testing.T) {
	for _, text := range []string{"", "\n", "7", "07\n", "-1\n", "+7\n", "7 \n", "7 TPM\n", " 7\n", "7\n\n", "18446744073709551616\n", "\x00\x00", strings.Repeat("7", 100)} {
		if got, err := ReadBlessed(fstest.MapFS{EpochPath(): {Data: []byte(text)}}); err == nil {
			t.Errorf("ReadBlessed(%q) = %+v, want an error", text, got)
		}
	}
	if _, err := ReadBlessed(fstest.MapFS{EpochPath() + "/x": {}}); err == nil {
		t.Error("a directory was read as an epoch")
	}
}

func FuzzAnEpochFileIsWhatItEncodesTo(f *testing.F) {
	f.Add([]byte("7 tpm\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if b, err := ReadBlessed(fstest.MapFS{EpochPath(): {Data: text}}); err == nil && string(b.Encode()) != string(text) {
			t.Errorf("%q was read as %+v, which is written %q", text, b, b.Encode())
		}
	})
}

func TestNoEventIsLargerThanATPMTakes(t *testing.T) {
	stack := make([]Image, maxImages)
	named := 0
	for i := range stack {
		stack[i].ID = strings.Repeat("ab", 32)
	}
	events := Measurements(strings.Repeat("cd", 32), stack)
	for _, e := range events {
		if len(e) > 1024 {
			t.Errorf("an event of %d bytes", len(e))
		}
		named += strings.Count(e, "ab"+strings.Repeat("ab", 31))
	}
	if named != len(stack) || !strings.HasPrefix(events[0], "veneer:manifest:cdcd") {
		t.Errorf("%d events name %d images of %d; the first is %.30q", len(events), named, len(stack), events[0])
	}
}
