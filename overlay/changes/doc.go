// Package changes tells what was written over a verified base: which paths differ and how, who supplies a path and what that
// hides, and what fills the space. Restore gives a path back what a snapshot has of it, on the running system.
//
// It guarantees that a comparison costs time in proportion to the upper and not to the base; that it sees what overlayfs shows
// (whiteouts, opaque and renamed directories, files of which only the metadata was copied up); that no link, mount or name
// inside an upper leads it out of that upper; and that no name is lost, whatever its bytes. It does not guarantee a consistent
// picture of a system that is being written to: what comes or goes during a walk may be told or not.
//
// It knows directories, and nothing of records or manifests: stage/report says which directories a machine has. PID 1 does not
// link it.
package changes
