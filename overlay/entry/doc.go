// Package entry is one entry of an overlay's upper: what it is (whiteout, opaque directory, or plain), how it is marked, and how it
// is copied and removed with everything that belongs to it.
//
// It guarantees that no symbolic link is followed, that no other file system is entered, and that memory and descriptors stay
// bounded however a tree is shaped. It does not guard against somebody who changes the tree at the same time: the init has the
// upper to itself. Nothing is durable before the caller syncs it, unless it asks for that.
//
// Every function takes the descriptor of a directory and a name in it; the name "" is the directory itself. Extended attributes
// of what cannot be opened are reached through /proc/self/fd, which must be mounted (getxattrat(2) is younger than our kernels).
//
// It is a leaf: it imports nothing of ours. overlay/merge and overlay/state sit above it.
package entry
