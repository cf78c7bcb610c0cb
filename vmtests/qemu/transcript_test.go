package qemu

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestExpectSeesWhatIsAlreadyThere(t *testing.T) {
	tr := NewTranscript()
	fmt.Fprint(tr, "one 1\r\ntwo 2\r\n")
	match, err := tr.Expect(soon(t), regexp.MustCompile(`(?m)^two (\d)(x)?$`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"two 2", "2", ""}, match); diff != "" {
		t.Errorf("Expect() (-want +got):\n%s", diff)
	}
}

func TestExpectMatchesAcrossWritesOfOneByte(t *testing.T) {
	tr := NewTranscript()
	go func() {
		for _, b := range []byte("boot\r\n\x1b[?2004hroot@debian:~# ") {
			tr.Write([]byte{b})
		}
	}()
	if _, err := tr.Expect(soon(t), regexp.MustCompile(`(?m)^root@debian:~# $`)); err != nil {
		t.Fatal(err)
	}
}

func TestExpectTakesEachPieceOfTextOnce(t *testing.T) {
	tr := NewTranscript()
	const lines = 500
	go func() {
		for i := range lines {
			fmt.Fprintf(tr, "line %d;", i)
		}
		tr.Close()
	}()
	re := regexp.MustCompile(`line (\d+);`)
	for i := range lines {
		match, err := tr.Expect(soon(t), re)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprint(i); match[1] != want {
			t.Fatalf("Expect() number %d = %q, want %q", i, match[1], want)
		}
	}
	if _, err := tr.Expect(soon(t), re); !errors.Is(err, ErrEnded) {
		t.Errorf("Expect() after the last line = %v, want ErrEnded", err)
	}
}

func TestExpectsOfManyGoroutinesShareTheText(t *testing.T) {
	tr := NewTranscript()
	const n = 50
	seen := make(chan string, n)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			match, err := tr.Expect(soon(t), regexp.MustCompile(`<(\d+)>`))
			if err != nil {
				t.Error(err)
				return
			}
			seen <- match[1]
		})
	}
	for i := range n {
		fmt.Fprintf(tr, "<%d>", i)
	}
	wg.Wait()
	close(seen)
	distinct := map[string]bool{}
	for s := range seen {
		distinct[s] = true
	}
	if len(distinct) != n {
		t.Errorf("%d goroutines took %d distinct pieces", n, len(distinct))
	}
}

func TestExpectGivesUpAtItsDeadlineAndShowsTheTail(t *testing.T) {
	tr := NewTranscript()
	for i := range 100 {
		fmt.Fprintf(tr, "line %d\n", i)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := tr.Expect(ctx, regexp.MustCompile(`login:`))
	if !errors.Is(err, ErrNotSeen) {
		t.Fatalf("Expect() = %v, want ErrNotSeen", err)
	}
	for _, want := range []string{`"login:"`, "| line 70\n", "| line 99"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Expect() = %q, want it to hold %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "line 69") {
		t.Errorf("Expect() = %q shows more than %d lines", err, tailLines)
	}
}

func TestExpectSaysThatNothingWasPrinted(t *testing.T) {
	tr := NewTranscript()
	tr.Close()
	if _, err := tr.Expect(soon(t), regexp.MustCompile(`x`)); !errors.Is(err, ErrEnded) || !strings.Contains(err.Error(), "nothing was printed") {
		t.Errorf("Expect() = %v, want ErrEnded and that nothing was printed", err)
	}
}

func TestExpectNone(t *testing.T) {
	panics := regexp.MustCompile(`panic`)
	t.Run("is satisfied when the console ends", func(t *testing.T) {
		tr := NewTranscript()
		go func() { fmt.Fprint(tr, "all well"); tr.Close() }()
		if err := tr.ExpectNone(soon(t), panics); err != nil {
			t.Error(err)
		}
	})
	t.Run("is satisfied at its deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		if err := NewTranscript().ExpectNone(ctx, panics); err != nil {
			t.Error(err)
		}
	})
	t.Run("names what appeared", func(t *testing.T) {
		tr := NewTranscript()
		go fmt.Fprint(tr, "kernel panic")
		if err := tr.ExpectNone(soon(t), panics); !errors.Is(err, ErrUnwanted) {
			t.Errorf("ExpectNone() = %v, want ErrUnwanted", err)
		}
	})
	t.Run("looks only behind the last match", func(t *testing.T) {
		tr := NewTranscript()
		fmt.Fprint(tr, "panic; recovered;")
		if _, err := tr.Expect(soon(t), regexp.MustCompile(`recovered`)); err != nil {
			t.Fatal(err)
		}
		tr.Close()
		if err := tr.ExpectNone(soon(t), panics); err != nil {
			t.Error(err)
		}
	})
}

func TestEscapeSequencesAreLeftOut(t *testing.T) {
	cases := []struct{ name, in, want string }{
		{"colours", "[\x1b[0;32m  OK  \x1b[0m] Reached", "[  OK  ] Reached"},
		{"bracketed paste", "\x1b[?2004h# ", "# "},
		{"window title", "\x1b]0;root@debian\a# \x1b]0;x\x1b\\$ ", "# $ "},
		{"clearing by a BIOS", "\x1bc\x1b[?7l\x1b[2J\x1b(BSeaBIOS", "SeaBIOS"},
		{"carriage returns", "a\r\n\rb\r\r\n", "a\nb\n"},
		{"an unfinished sequence does not eat the next line", "\x1b[12\nlogin:", "\nlogin:"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			tr := NewTranscript()
			fmt.Fprint(tr, c.in)
			if got := tr.String(); got != c.want {
				t.Errorf("transcript of %q = %q, want %q", c.in, got, c.want)
			}
		})
	}
}

func FuzzTranscriptDoesNotDependOnPieces(f *testing.F) {
	f.Add("a\x1b[0;32mOK\x1b[0m\r\n", 3)
	f.Add("\x1b]0;t\x1b\\x\x1b(B", 1)
	f.Fuzz(func(t *testing.T, s string, n int) {
		whole, pieces := NewTranscript(), NewTranscript()
		whole.Write([]byte(s))
		n = max(1, n%16)
		for rest := []byte(s); len(rest) > 0; {
			k := min(n, len(rest))
			pieces.Write(rest[:k])
			rest = rest[k:]
		}
		if diff := cmp.Diff(whole.String(), pieces.String()); diff != "" {
			t.Errorf("in pieces of %d (-whole +pieces):\n%s", n, diff)
		}
	})
}

// soon is a context for what must happen at once; its limit only keeps a broken test from hanging.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}
