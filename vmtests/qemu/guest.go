package qemu

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// End tells how a guest ended.
type End string

// The ends of a guest.
const (
	PoweredOff End = "powered off"
	Reset      End = "reset" // asked for a reset, which ends a VM that was started
	Panicked   End = "panicked"
	Killed     End = "killed" // by Kill, by a signal, or because the context of its start ended
	Crashed    End = "crashed"
)

// Guest is a running VM. What its console prints is in the transcript; Kill must be called in the end, and may be called
// at any time and more than once.
type Guest struct {
	*Transcript
	engine engine
	qmp    *monitor // nil for a guest of Spawn
	plugs  *plugs
}

// engine is the process behind a guest: vmtest's for Start, our own for Spawn.
type engine interface {
	send(text string) error
	kill()                 // returns when QEMU has gone
	gone() <-chan struct{} // closed when QEMU has gone and the transcript is complete
	end() (End, string)    // after gone: how it ended, and what QEMU said about it
}

// Expect waits for limit at most until re matches what the console printed after the last match, and returns the match and
// its groups. See Transcript.Expect.
func (g *Guest) Expect(ctx context.Context, limit time.Duration, re *regexp.Regexp) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	match, err := g.Transcript.Expect(ctx, re)
	if err != nil {
		return nil, fmt.Errorf("expect within %v: %w%s", limit, err, g.lastWords(err))
	}
	return match, nil
}

// ExpectNone watches for limit, or until the guest ends, that re does not match what the console prints after the last
// match.
func (g *Guest) ExpectNone(ctx context.Context, limit time.Duration, re *regexp.Regexp) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return g.Transcript.ExpectNone(ctx, re)
}

// lastWords adds what QEMU said when the console ended early.
func (g *Guest) lastWords(err error) string {
	if !errors.Is(err, ErrEnded) {
		return ""
	}
	<-g.engine.gone()
	how, words := g.engine.end()
	if words = strings.TrimSpace(words); words != "" {
		return fmt.Sprintf("\nthe guest %s; QEMU says: %s", how, words)
	}
	return fmt.Sprintf("\nthe guest %s", how)
}

// Send types text on the console; "\r" is the Enter key.
func (g *Guest) Send(text string) error {
	if err := g.engine.send(text); err != nil {
		return fmt.Errorf("type %q on the console: %w", text, err)
	}
	return nil
}

// Wait waits for limit at most until the guest has ended, and says how. A crash of QEMU is an error. A guest that still
// runs goes on.
func (g *Guest) Wait(ctx context.Context, limit time.Duration) (End, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case <-g.engine.gone():
	case <-ctx.Done():
		return "", fmt.Errorf("the guest still runs after %v; %s", limit, g.describeTail())
	}
	how, words := g.engine.end()
	if how == Crashed {
		return how, fmt.Errorf("QEMU crashed: %s; %s", strings.TrimSpace(words), g.describeTail())
	}
	return how, nil
}

// Kill ends the VM at once and returns when its process has gone. The guest gets no chance to shut down.
func (g *Guest) Kill() { g.engine.kill() }

// Step is one step of a conversation with a console: either something to wait for or something to type.
type Step struct {
	Expect *regexp.Regexp
	Send   string // typed as it is, when Expect is nil
}

// Play carries out the steps in order: each Send happens as soon as all the expectations before it have been met.
func (g *Guest) Play(ctx context.Context, steps []Step) error {
	for i, step := range steps {
		var err error
		if step.Expect == nil {
			err = g.Send(step.Send)
		} else if _, err = g.Transcript.Expect(ctx, step.Expect); err != nil {
			err = fmt.Errorf("expect %w%s", err, g.lastWords(err))
		}
		if err != nil {
			return fmt.Errorf("step %d of %d: %w", i+1, len(steps), err)
		}
	}
	return nil
}
