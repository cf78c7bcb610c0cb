package main

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"veneer/stage"
)

// Limits of a line: the kernel refuses longer ones on /dev/kmsg, and one Go stack must not flood the console.
const (
	maxLine  = 800
	maxLines = 40
)

// log prints through the kernel's own log, so that every console shows it, dmesg and the journal keep it, and `quiet` and
// loglevel= mean what they always mean. What is printed before /dev is there waits for it.
type log struct {
	mu      sync.Mutex // some steps have several workers
	kmsg    *os.File
	pending []string
	kept    strings.Builder // for /run/veneer/log
}

func newLog() *log { return &log{} }

// open connects to the kernel's log. Without it, which no kernel of ours lacks, lines go to the console.
func (l *log) open() {
	// The default, ratelimit, drops lines of a quick boot (Documentation/admin-guide/sysctl/kernel.rst, printk_devkmsg).
	_ = os.WriteFile("/proc/sys/kernel/printk_devkmsg", []byte("on\n"), 0)
	if f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
		l.kmsg = f
	}
	for _, line := range l.pending {
		l.print(line)
	}
	l.pending = nil
}

// line prints and keeps a message, which may have several lines.
func (l *log) line(level stage.Level, message string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	priority := '6' // info, of syslog(2); quiet shows those below 4
	if level == stage.Bad {
		priority = '3' // err
	}
	for i, text := range strings.Split(strings.TrimRight(message, "\n"), "\n") {
		if i == maxLines {
			text = "..."
		}
		if len(text) > maxLine {
			text = text[:maxLine] + "..."
		}
		fmt.Fprintf(&l.kept, "%10.6f %s\n", uptime().Seconds(), text)
		l.print(fmt.Sprintf("<%c>veneer: %s\n", priority, strings.ReplaceAll(text, "\t", "    ")))
		if i == maxLines {
			return
		}
	}
}

func (l *log) print(line string) {
	if l.kmsg == nil {
		l.pending = append(l.pending, line)
		return
	}
	if _, err := l.kmsg.WriteString(line); err != nil {
		fmt.Fprint(os.Stderr, line[3:])
	}
}

// flush prints what is pending on the console, for a failure before /dev was there.
func (l *log) flush() {
	for _, line := range l.pending {
		fmt.Fprint(os.Stderr, line[3:])
	}
	l.pending = nil
}

// loud makes sure that a failure is seen whatever loglevel= said.
func (l *log) loud() {
	if level, err := os.ReadFile("/proc/sys/kernel/printk"); err == nil && len(level) > 0 && level[0] < '4' && (len(level) < 2 || level[1] < '0' || level[1] > '9') {
		_ = os.WriteFile("/proc/sys/kernel/printk", []byte("4\n"), 0)
	}
}
