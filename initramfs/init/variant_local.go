//go:build !live && !net

package main

import "veneer/stage"

// variant returns nothing: this init boots sets of stores on local block devices.
func variant() stage.Variant { return nil }
