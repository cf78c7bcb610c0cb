// Package overlay plans the merged root: which layers, which upper, mounted how. Plan is pure; overlay/mount applies what it
// returns.
//
// It guarantees that a path with any byte in it is escaped as overlayfs wants it, that the options fit in what mount(2) takes,
// and that a root which passed CheckRoot holds a program that this machine can run as PID 1.
//
// It imports boot and overlay/mount; stage joins it with images.
package overlay
