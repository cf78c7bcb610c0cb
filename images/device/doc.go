// Package device writes images of disks to block devices: it looks at what is there, refuses what is in use, writes, and reads back. It is
// host-only. The image is a reader of known size, so that what it is made from does not matter; the command sits above it.
//
// It guarantees that nothing is written to a device that the kernel says is in use: it is held open with O_EXCL from before the first
// write to the end of the verification (open(2)). It does not guarantee that an interrupted write leaves what was there before.
package device
