// Package disks makes the disks of the VM tests: a directory becomes a file system of any kind that a store can live on, and
// file systems become the partitions of a GPT disk.
//
// It guarantees that no privileges are needed, and that a missing program is an error that names its Debian package. What is
// left of a disk that could not be made is for the caller to remove.
//
// A leaf: it imports nothing of ours. The cases of vmtests sit above it.
package disks
