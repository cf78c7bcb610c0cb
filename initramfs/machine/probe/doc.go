// Package probe tells what a block device holds: the type, label and UUID of a file system, and the entries of a partition
// table.
//
// It guarantees the answers that `blkid -p` would give for the formats it knows, except that all generations of ext are "ext4";
// that a change of a GPT is planned so that every prefix of its writes shows the old table or the new; that what two formats
// claim is refused with both names; that hostile content costs a bounded number of reads and bytes, whatever it says of itself;
// and that nothing is ever written here.
//
// It does not verify a file system, does not look for traces of RAID at the end of a device, and knows only what a boot medium
// can be: any other content is an empty Content.
//
// A leaf: it imports nothing of ours. initramfs/machine sits above it and links it into PID 1.
package probe
