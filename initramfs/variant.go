package initramfs

// Variant names a PID 1: each can do what the one before it can, and is larger. A build tag of the same name makes it.
type Variant string

// The variants.
const (
	Local Variant = "local" // stores on local block devices
	Live  Variant = "live"  // and media that are files, that others made, or that are copied to memory
	Net   Variant = "net"   // and sets that a server has
)

// Variants are all of them, the smallest first.
var Variants = []Variant{Local, Live, Net}

// Archive is the prebuilt archive of the variant.
func (v Variant) Archive() string {
	if v == Local {
		return "init.cpio"
	}
	return "init-" + string(v) + ".cpio"
}

// Tag is the build tag that makes the variant.
func (v Variant) Tag() string { return string(v) }
