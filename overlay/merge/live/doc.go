// Package live finds the merged directories of the running system in the record, for `veneer etc`.
//
// It guarantees that a path is looked for in the merged directory that it really lies in, and that the base is the one that runs.
// It never looks for an upper by itself: what the record does not name does not exist.
//
// It is not part of PID 1. It imports overlay/merge; cmd/veneer sits above it.
package live
