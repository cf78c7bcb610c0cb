//go:build !onboard

package main

import (
	"veneer/stage"
	"veneer/stage/live"
	"veneer/stage/netboot"
)

// planVariant is the variant that an initramfs has, or where nobody knows that the largest: it can do what any of them can.
func planVariant(on live.System, variant string) stage.Variant {
	if variant == "live" {
		return live.Variant{System: on}
	}
	return &netboot.Variant{Next: live.Variant{System: on}, Memory: on.Available}
}
