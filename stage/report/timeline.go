package report

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Chart is how the timeline is drawn in a terminal. Its zero value is 80 columns of ASCII.
type Chart struct {
	Width  int  // columns of the terminal
	Blocks bool // the terminal shows Unicode's block elements
}

const (
	defaultWidth = 80
	minBar       = 10 // columns that the bars keep in a terminal however narrow
)

// Timeline draws the steps as bars over the time since PID 1 began. A step shows even if it took next to no time.
func (r *Report) Timeline(c Chart) string {
	if c.Width <= 0 {
		c.Width = defaultWidth
	}
	names, times := 0, 0
	for _, s := range r.Steps {
		names = max(names, utf8.RuneCountInString(plain(s.Name)))
		times = max(times, len(took(s)))
	}
	start, end := span(r.Record)
	bar := max(minBar, c.Width-names-times-4)
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s. %s\n\n", plain(r.Deployment.Name), plain(r.Deployment.Version), r.headline())
	for _, s := range r.Steps {
		drawn := c.bar(s.Start.Duration()-start, s.Took.Duration(), end-start, bar)
		fmt.Fprintf(&b, "%s%s  %s  %*s\n", plain(s.Name), strings.Repeat(" ", names-utf8.RuneCountInString(plain(s.Name))), drawn, times, took(s))
	}
	axis := "0"
	if last := duration(end - start); bar > len(axis)+len(last) {
		axis += strings.Repeat(" ", bar-len(axis)-len(last)) + last
	}
	fmt.Fprintf(&b, "%*s  %s\n", names, "", axis)
	return b.String()
}

// bar draws one step in width columns.
func (c Chart) bar(start, took, total time.Duration, width int) string {
	mark, rest := "#", "."
	if c.Blocks {
		mark, rest = "█", "·"
	}
	from := min(column(start, total, width), width-1)
	to := min(max(column(start+took, total, width), from+1), width)
	return strings.Repeat(rest, from) + strings.Repeat(mark, to-from) + strings.Repeat(rest, width-to)
}

// column is where a moment falls, rounded to the nearest column.
func column(at, total time.Duration, width int) int {
	if total <= 0 || at <= 0 {
		return 0
	}
	return int(min(float64(at)/float64(total), 1)*float64(width) + 0.5)
}
