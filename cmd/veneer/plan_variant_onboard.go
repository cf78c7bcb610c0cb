//go:build onboard

package main

import (
	"veneer/stage"
	"veneer/stage/live"
)

// planVariant is what the on-board command can plan. A netboot it leaves to the command of a build host: an HTTP client would make the
// tools layer half as large again.
func planVariant(on live.System, _ string) stage.Variant { return live.Variant{System: on} }
