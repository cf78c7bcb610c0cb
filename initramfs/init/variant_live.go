//go:build live && !net

package main

import (
	"veneer/stage"
	"veneer/stage/live"
)

// variant boots media besides: see package live.
func variant() stage.Variant { return live.Variant{System: live.Linux{}} }
