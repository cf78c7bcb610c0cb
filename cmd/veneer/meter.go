//go:build !onboard

package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"veneer/images/build"
)

// meter shows how far long work is: one line that changes on a terminal, a plain line now and then elsewhere. Work that is done
// before the first line was due shows nothing.
type meter struct {
	w        io.Writer
	what     string
	terminal bool
	every    time.Duration
	start    time.Time
	next     time.Time
	shown    bool
}

func newMeter(w io.Writer, what string) *meter {
	m := &meter{w: w, what: what, every: 5 * time.Second, start: time.Now()}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		m.terminal, m.every = true, 200*time.Millisecond
	}
	m.next = m.start.Add(m.every)
	return m
}

// set tells that done of total bytes are done.
func (m *meter) set(done, total int64) {
	now := time.Now()
	if now.Before(m.next) || total <= 0 {
		return
	}
	m.next, m.shown = now.Add(m.every), true
	line := meterLine(m.what, done, total, now.Sub(m.start))
	if m.terminal {
		fmt.Fprintf(m.w, "\r\x1b[K%s", line)
	} else {
		fmt.Fprintln(m.w, line)
	}
}

// end takes the line off the terminal.
func (m *meter) end() {
	if m.terminal && m.shown {
		fmt.Fprint(m.w, "\r\x1b[K")
	}
}

func meterLine(what string, done, total int64, spent time.Duration) string {
	line := fmt.Sprintf("%s: %3d%% of %s", what, done*100/total, build.FormatBytes(total))
	if done > 0 && spent > 0 {
		rate := float64(done) / spent.Seconds()
		left := time.Duration(float64(total-done) / rate * float64(time.Second)).Round(time.Second)
		line += fmt.Sprintf(", %s/s, %v left", build.FormatBytes(int64(rate)), left)
	}
	return line
}
