//go:build net

package main

import (
	"veneer/stage"
	"veneer/stage/live"
)

// variant boots media and sets of a server besides.
func variant() stage.Variant { return live.Variant{System: live.Linux{}} }
