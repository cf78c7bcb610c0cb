// Package qemu runs virtual machines: a VM value becomes a QEMU command line, a started one a Guest whose console can be
// awaited and answered. The VM tests and `veneer run` share it, so that what is tested is what users run.
//
// It guarantees that VM.Args is pure; that every wait has a deadline of its own; that an expectation which fails says what
// was awaited and shows the tail of the console; that no QEMU outlives Kill, Wait or a cancelled context; that KVM is used
// only after a guest has booted under it on this machine.
//
// It does not make disk images or kernels, and it does not install QEMU: a missing program is an error that names the
// Debian package.
//
// A leaf: it imports nothing of ours. cmd/veneer and the cases of vmtests sit above it.
package qemu
