package qemu

// Accel is the way in which QEMU executes the guest's instructions.
type Accel string

// The accelerators.
const (
	TCG Accel = "tcg" // translation, works everywhere
	KVM Accel = "kvm" // the host's own virtualization
)
