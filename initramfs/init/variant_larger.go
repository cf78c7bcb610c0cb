//go:build live || net

package main

import (
	"veneer/boot/dialect"
	"veneer/stage"
)

// dialects reads the parameters of those who made the media that this init boots besides.
func dialects() stage.Dialects { return dialect.Strings }
