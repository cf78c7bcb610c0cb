// Package initramfs assembles the archive that the kernel unpacks and starts: PID 1, the modules that the machine may need to
// find its store, the keys that it trusts, and, where asked for, a rescue shell.
//
// It guarantees that the same Spec gives the same bytes on any machine; that the order in which modules load is computed here,
// from what the modules say of themselves, so that PID 1 neither runs modprobe nor reads modules.dep; and that a module which
// is needed and is neither there nor built into the kernel fails the build, not the boot.
//
// It needs no Go toolchain: init and rescue tools were built by initramfs/release and travel in the command (Prebuilt). It does
// not check that module files are signed, and changes no byte of them, so that the signatures that they have stay good.
//
// It runs on the build host only. images/build and cmd/veneer are above it; initramfs/machine reads the index that it writes.
package initramfs
