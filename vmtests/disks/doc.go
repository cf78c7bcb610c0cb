// Package disks makes the disks of the VM tests: a directory becomes a file system of any kind that a store can live on, and
// file systems become the partitions of a GPT disk.
//
// It guarantees that no privileges are needed, that a disk appears whole or not at all, and that what was made once from the
// same content is not made again. A missing program is an error that names its Debian package.
//
// It does not change what it has made: give the guest a disk as read-only or as a snapshot.
//
// A leaf: it imports nothing of ours. The cases of vmtests sit above it.
package disks
