// Package devmapper makes and removes device-mapper devices of one target, with no more system calls than there have to be: a
// boot makes one device for each image, and where system calls are dear they are what it costs.
//
// It guarantees that a device which Create returned can be read, and that nothing is left of one that it could not make. It
// waits for no node in /dev, since devtmpfs has it by then. It stands below images and boot/switchroot, and imports nothing of
// ours.
package devmapper
