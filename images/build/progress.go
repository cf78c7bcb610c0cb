package build

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Progress shows how far long work has come, with rate and remaining time: on a terminal in a line that is kept up to date,
// elsewhere in a plain line now and then, so that short work shows nothing. A piece of work may end with a line that stays.
// A nil Progress shows nothing. It may be used by several goroutines at a time.
type Progress struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	now      func() time.Time

	what        string
	done, total int64
	start, last time.Time
	shown       bool // a line without its end is on the terminal
}

// How often the state is shown: a terminal's line changes, a log grows.
const (
	everyOnTerminal = 200 * time.Millisecond
	everyInLog      = 5 * time.Second
)

// NewProgress makes a Progress that writes to w.
func NewProgress(w io.Writer, terminal bool) *Progress {
	return &Progress{w: w, terminal: terminal, now: time.Now}
}

// Start begins a piece of work of total bytes; 0 where that is not known.
func (p *Progress) Start(what string, total int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	p.what, p.done, p.total, p.start, p.last = what, 0, total, now, now
	if p.terminal {
		p.last = time.Time{} // it is due at once
	}
	p.paint()
}

// Add counts n more bytes of the work.
func (p *Progress) Add(n int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.paint()
}

// Set says how many bytes of how many are done.
func (p *Progress) Set(done, total int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done, p.total = done, total
	p.paint()
}

// Finish ends the piece of work with a line that stays.
func (p *Progress) Finish(format string, args ...any) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	took := p.now().Sub(p.start)
	p.clear()
	fmt.Fprintf(p.w, "%s: %s (%s)\n", p.what, fmt.Sprintf(format, args...), took.Round(100*time.Millisecond))
	p.what = ""
}

// Print writes a line of its own; work that goes on is shown below it.
func (p *Progress) Print(format string, args ...any) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintf(p.w, format+"\n", args...)
	if p.terminal {
		p.last = time.Time{}
	}
	p.paint()
}

// Stop takes the line of unfinished work off the terminal.
func (p *Progress) Stop() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	p.what = ""
}

func (p *Progress) clear() {
	if p.shown {
		io.WriteString(p.w, "\r\x1b[K")
		p.shown = false
	}
}

func (p *Progress) paint() {
	now, every, format := p.now(), everyInLog, "%s: %s\n"
	if p.terminal {
		every, format = everyOnTerminal, "\r\x1b[K%s: %s"
	}
	if p.what == "" || now.Sub(p.last) < every {
		return
	}
	p.last, p.shown = now, p.terminal
	fmt.Fprintf(p.w, format, p.what, p.state(now.Sub(p.start)))
}

// state tells share, rate and remaining time.
func (p *Progress) state(took time.Duration) string {
	if p.total <= 0 {
		return took.Round(time.Second).String()
	}
	total := max(p.total, p.done)
	text := fmt.Sprintf("%3d%% of %s", p.done*100/total, FormatBytes(total))
	if took < time.Second || p.done == 0 {
		return text
	}
	rate := float64(p.done) / took.Seconds()
	left := time.Duration(float64(total-p.done) / rate * float64(time.Second))
	return fmt.Sprintf("%s, %s/s, %s left", text, FormatBytes(int64(rate)), left.Round(time.Second))
}
