//go:build !onboard

package main

import (
	"veneer/stage"
	"veneer/stage/live"
	"veneer/stage/netboot"
)

// planVariant is the largest init: a plan shows what any of them would do.
func planVariant() stage.Variant { return &netboot.Variant{Next: live.Variant{}} }
