// Package switchroot leaves the initramfs for the merged root, and, at the end of the machine's day, comes back to take the
// merged root down.
//
// It guarantees that nothing is deleted before every fence has said that this is PID 1, in an initramfs, with a merged root
// mounted elsewhere. It does not check that the root can be run: overlay.CheckRoot has done that by then.
//
// It imports overlay/mount; initramfs/init sits above it.
package switchroot
