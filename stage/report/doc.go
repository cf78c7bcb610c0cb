// Package report shows a boot's record to people and to programs: as text, as JSON, and as a chart of the steps in the terminal
// or in an SVG picture.
//
// It guarantees that what it shows is what the init recorded, never derived a second time; that the only live number is the
// space in the upper; that nothing from the record reaches a terminal as a control sequence; and that the same record gives
// the same bytes.
//
// stage sits below it, cmd/veneer above. PID 1 does not link it.
package report
