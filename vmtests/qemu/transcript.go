package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// ErrNotSeen means that an expectation's deadline passed. The guest still runs, and the caller may go on to expect.
var ErrNotSeen = errors.New("not seen on the console in time")

// ErrEnded means that the console was closed, because the guest or QEMU ended. Nothing more will be seen.
var ErrEnded = errors.New("the console ended")

// ErrUnwanted means that something appeared on the console that must not.
var ErrUnwanted = errors.New("must not appear on the console, but did")

// tailLines is how much of the console an error shows.
const tailLines = 30

// Transcript is what a console has printed so far, and a cursor that expectations move along it. Carriage returns and
// escape sequences are left out, so that an expectation sees the text that a person would. It may be written by one
// goroutine while others expect.
type Transcript struct {
	mu     sync.Mutex
	text   []byte
	cursor int           // end of the last match
	more   chan struct{} // closed and replaced when text grows or the console ends
	ended  bool
	filter escapeFilter
}

// NewTranscript returns an empty transcript.
func NewTranscript() *Transcript { return &Transcript{more: make(chan struct{})} }

// Write adds console output. It never fails.
func (t *Transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = t.filter.append(t.text, p)
	t.wake()
	return len(p), nil
}

// Close marks the end of the console: expectations that are still open end with ErrEnded.
func (t *Transcript) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	t.wake()
	return nil
}

func (t *Transcript) wake() {
	close(t.more)
	t.more = make(chan struct{})
}

// String returns the whole text so far.
func (t *Transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// Expect waits until the text after the last match holds a match of re, moves the cursor behind it, and returns the match
// and its groups. A match at the very end of the text is taken as it is, so a pattern for something of unknown length
// should include what follows it. The error is ErrNotSeen when ctx ends first, and ErrEnded when the console does.
func (t *Transcript) Expect(ctx context.Context, re *regexp.Regexp) ([]string, error) {
	for {
		match, more, ended := t.search(re, true)
		if match != nil {
			return match, nil
		}
		if ended {
			return nil, t.failure(re, ErrEnded)
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, t.failure(re, ErrNotSeen)
		}
	}
}

// ExpectNone waits until ctx or the console ends, and returns ErrUnwanted as soon as the text after the last match holds a
// match of re. The cursor stays where it is.
func (t *Transcript) ExpectNone(ctx context.Context, re *regexp.Regexp) error {
	for {
		match, more, ended := t.search(re, false)
		if match != nil {
			return t.failure(re, ErrUnwanted)
		}
		if ended {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil
		}
	}
}

// search looks once. The channel belongs to the very text that was searched, so that no growth in between is missed.
func (t *Transcript) search(re *regexp.Regexp, advance bool) (match []string, more <-chan struct{}, ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rest := t.text[t.cursor:]
	at := re.FindSubmatchIndex(rest)
	if at == nil {
		return nil, t.more, t.ended
	}
	for i := 0; i < len(at); i += 2 {
		group := ""
		if at[i] >= 0 {
			group = string(rest[at[i]:at[i+1]])
		}
		match = append(match, group)
	}
	if advance {
		t.cursor += at[1]
	}
	return match, t.more, t.ended
}

// Tail returns the last lines of the text.
func (t *Transcript) Tail(lines int) string {
	text := strings.TrimRight(t.String(), "\n")
	all := strings.Split(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func (t *Transcript) failure(re *regexp.Regexp, why error) error {
	return fmt.Errorf("%q: %w; %s", re, why, t.describeTail())
}

func (t *Transcript) describeTail() string {
	tail := t.Tail(tailLines)
	if strings.TrimSpace(tail) == "" {
		return "nothing was printed"
	}
	return "the last lines:\n  | " + strings.ReplaceAll(tail, "\n", "\n  | ")
}

// escapeFilter drops carriage returns and the escape sequences of ECMA-48, whatever the pieces in which they arrive.
type escapeFilter struct{ state escapeState }

type escapeState int

const (
	plain   escapeState = iota
	escape1             // after ESC
	control             // inside a control sequence: ESC [ … final byte
	text                // inside a string: ESC ] … BEL or ESC \
	textEsc             // after an ESC inside a string
	charset             // one more byte belongs to the sequence: ESC ( B
)

func (f *escapeFilter) append(to, p []byte) []byte {
	if f.state == plain && !bytes.ContainsAny(p, "\x1b\r") {
		return append(to, p...)
	}
	for _, b := range p {
		// A new line also ends a sequence that was cut short, lest it swallow what follows.
		if b == '\n' || f.state == plain && b != '\x1b' && b != '\r' {
			to, f.state = append(to, b), plain
			continue
		}
		f.state = f.next(b)
	}
	return to
}

func (f *escapeFilter) next(b byte) escapeState {
	switch {
	case b == '\x1b' && f.state == text:
		return textEsc
	case b == '\x1b':
		return escape1
	case f.state == plain: // a carriage return
		return plain
	case f.state == escape1 && b == '[':
		return control
	case f.state == escape1 && (b == ']' || b == 'P' || b == 'X' || b == '^' || b == '_'):
		return text
	case f.state == escape1 && b >= ' ' && b <= '/':
		return charset
	case f.state == control && (b < '@' || b > '~'):
		return control
	case f.state == text && b != '\a':
		return text
	}
	return plain
}
