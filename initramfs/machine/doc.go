// Package machine is stage.Machine on the real kernel: it loads modules, listens to uevents, finds block devices by what they
// hold, and attaches images.
//
// It guarantees that discovery waits for events and one deadline, never for a fixed time; that it runs on the goroutine of its
// caller; and that each candidate which was not taken is named with the reason.
//
// It trusts the initramfs that it runs in (the module index) and nothing that it reads from a device.
//
// stage sits below it, initramfs/init above.
package machine
