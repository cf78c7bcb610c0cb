// Package disk makes, changes, checks and unlocks what a state lies on: partitions, file systems, LUKS, the file of a state. It is the
// part of the keeper that PID 1 asks for when a look at the disks shows that there is such work; PID 1 never links it.
//
// It guarantees that a power cut at any instant leaves what was there, what was to be made, or what is Empty to the next look; that
// what holds anything is left alone; that a program of the base gets its arguments alone, without a shell, under a deadline, and a
// secret in memory without a name. It waits for no device and loads no module by itself: who asks has done both.
//
// stage, images, overlay/mount and initramfs/machine/probe lie below it, stage/keeper above.
package disk
