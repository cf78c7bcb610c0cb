// Package mount holds mount operations as values, the kernel that applies them, a recorder for tests and plans, and the table of
// what is mounted.
//
// It guarantees that an operation prints as the shell command that would do the same, and that an operation which fails says
// what it was given. It decides nothing: planners in overlay and stage emit operations, somebody else applies them.
//
// It imports nothing of ours.
package mount
