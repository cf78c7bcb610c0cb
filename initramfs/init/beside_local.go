//go:build !live

package main

// beside is what the larger variants have: processes besides PID 1.
func beside() {}

func (*pid1) leaveBeside() error { return nil }
