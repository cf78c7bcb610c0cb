package netboot

import (
	"errors"
	"fmt"
	"io"
	"time"

	"veneer/images/copyin"
)

// meter says, every now and then, how far a transfer is.
type meter struct {
	size, lastAt int64
	every        time.Duration
	last         time.Time
}

func newMeter(at, size int64, every time.Duration) *meter {
	return &meter{size: size, lastAt: at, every: every, last: time.Now()}
}

// at returns a line when one is due: how far, how fast since the last line, how long at that rate.
func (m *meter) at(at int64, now time.Time) (string, bool) {
	since := now.Sub(m.last)
	if since < m.every || at < m.lastAt {
		return "", false
	}
	rate := float64(at-m.lastAt) / since.Seconds()
	m.lastAt, m.last = at, now
	if rate < 1 {
		return "", false
	}
	left := time.Duration(float64(m.size-at) / rate * float64(time.Second)).Round(time.Second)
	return fmt.Sprintf("%d of %s, %.1f MiB/s, %s left", at>>20, copyin.MiB(m.size), rate/(1<<20), left), true
}

// isCut reports whether a body ended before its time, with or without the server having said how long it would be.
func isCut(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }
