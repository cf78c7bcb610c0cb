// Package stage runs a boot: named steps, one after the other, from the kernel command line to a merged root that is ready to
// be switched to.
//
// It guarantees that each step is timed and recorded, that a step which fails undoes the ones before it, last first, and that
// nothing degrades in silence: what was decided, and why, is in the Record.
//
// It joins overlay, images and boot with plain values and touches the machine only through the Machine interface, so that
// `veneer plan` runs the very same recipe on paper. initramfs/machine sits above it with the real kernel.
package stage
