// Package probe tells what a block device holds: the type, label and UUID of a file system, and the entries of a partition table.
//
// It guarantees bounded time and memory whatever the device holds, and the same labels and UUIDs as blkid(8). It reads
// magic numbers and names, nothing else: whether a file system can be mounted is for the kernel to say.
//
// It imports nothing of ours.
package probe
