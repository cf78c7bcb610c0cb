//go:build onboard

package main

// builtFor knows nothing on board: the parts that read an initramfs stay on the build host.
func builtFor(string) builtIn { return builtIn{} }
