//go:build linux

// Command poweroff asks the init of the small base for it.
package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	if err := unix.Kill(1, unix.SIGUSR2); err != nil {
		fmt.Fprintf(os.Stderr, "poweroff: ask init: %v\n", err)
		os.Exit(1)
	}
}
