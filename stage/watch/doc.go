// Package watch tells in time that an upper or the state fills up: it compares how full they are with the watermarks of the
// record, and does what the policy says when one is crossed.
//
// It guarantees that each crossing is told once, however often it looks; that looking costs a statfs for each place; and that
// what it made read-only it makes writable again when there is room. It does not guarantee to be in time: a disk can be filled
// between two looks, and is then simply full.
//
// stage sits below it, cmd/veneer and stage/report above. PID 1 does not link it.
package watch
