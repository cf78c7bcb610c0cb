package watch

import "veneer/stage"

// Level is how full a place is.
type Level string

// The levels, in their order.
const (
	Good     Level = "good"
	Warning  Level = "warning"
	Critical Level = "critical"
)

// Defaults of the watermarks, in percent.
const (
	defaultWarning  = 80
	defaultCritical = 95
)

// margin is how far below a watermark a place has to come before it counts as below: what swings around it is told once.
const margin = 2

// ReadOnly is the policy that makes what is kept read-only when it is critical.
const ReadOnly = "read-only"

// Policy are the watermarks with their defaults filled in.
type Policy struct {
	Warning, Critical int // percent
	ReadOnly          bool
}

// PolicyOf fills the defaults in.
func PolicyOf(w stage.Watermarks) Policy {
	p := Policy{w.Warning, w.Critical, w.Full == ReadOnly}
	if p.Critical <= 0 || p.Critical > 100 {
		p.Critical = defaultCritical
	}
	if p.Warning <= 0 || p.Warning > p.Critical {
		p.Warning = min(defaultWarning, p.Critical)
	}
	return p
}

// Next is the level of a place that is percent full, and was at a level before.
//
//	before \ percent   <warning-2  <warning  <critical-2  <critical  more
//	good               good        good      warning      warning    critical
//	warning            good        warning   warning      warning    critical
//	critical           good        warning   warning      critical   critical
func (p Policy) Next(before Level, percent int) Level {
	warning, critical := p.Warning, p.Critical
	switch before {
	case Critical:
		critical -= margin
		warning -= margin
	case Warning:
		warning -= margin
	}
	switch {
	case percent >= critical:
		return Critical
	case percent >= warning:
		return Warning
	}
	return Good
}
