// Package live finds the merged directories of the running system in the record, and the conflicts that are open in them, for
// `veneer etc` and `veneer status`.
//
// It guarantees that a path is looked for in the merged directory that it really lies in, and that the base is the one that runs.
// It never looks for an upper by itself: what the record does not name does not exist.
//
// It is not part of PID 1. It imports overlay/merge and overlay/entry; stage/report and cmd/veneer sit above it.
package live
