//go:build linux

// Command sh runs u-root's shell under the name that other programs call a shell by: busybox mode knows commands by their name
// only, and "sh" is no command of u-root's. It gives the shell a PATH where its caller, often PID 1, has none.
package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	shell = "/bbin/gosh"
	path  = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/bbin"
)

func main() {
	env := os.Environ()
	if os.Getenv("PATH") == "" {
		env = append(env, path)
	}
	err := unix.Exec(shell, append([]string{"gosh"}, os.Args[1:]...), env)
	fmt.Fprintf(os.Stderr, "sh: run %s: %v\n", shell, err)
	os.Exit(127)
}
