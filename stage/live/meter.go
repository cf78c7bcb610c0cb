package live

import (
	"fmt"
	"time"

	"veneer/images/copyin"
)

// every is the time between two lines of progress.
const every = time.Second

// meter tells how far a copy is.
type meter struct {
	size        int64
	start, last time.Time
}

func newMeter(size int64, now time.Time) *meter { return &meter{size, now, now} }

// at is a line, or "" where the last one was a moment ago.
func (m *meter) at(at int64, now time.Time) string {
	if now.Sub(m.last) < every || at <= 0 || m.size <= 0 {
		return ""
	}
	m.last = now
	took := now.Sub(m.start)
	left := time.Duration(float64(took) / float64(at) * float64(m.size-at)).Round(time.Second)
	return fmt.Sprintf("%d%% of %s, %s, %s left", at*100/m.size, copyin.MiB(m.size), rate(at, took), left)
}

// end is the last line.
func (m *meter) end(at int64, now time.Time) string {
	took := now.Sub(m.start)
	return fmt.Sprintf("%s in %s, %s", copyin.MiB(at), took.Round(100*time.Millisecond), rate(at, took))
}

func rate(bytes int64, took time.Duration) string {
	return fmt.Sprintf("%.1f MB/s", float64(bytes)/max(took.Seconds(), 0.001)/1e6)
}
