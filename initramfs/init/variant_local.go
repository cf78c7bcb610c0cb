//go:build !live && !net

package main

import "veneer/stage"

// variant returns nothing: this init boots sets of stores on local block devices.
func variant() stage.Variant { return nil }

// dialects returns nothing: others' parameters are none of this init's.
func dialects() stage.Dialects { return nil }
