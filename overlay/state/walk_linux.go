package state

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// eachName calls do with each name in a directory, a few at a time: a directory may hold millions.
func eachName(dir int, do func(name string) error) error {
	fd, err := openBeneath(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY) // one with a position of its own
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "directory")
	defer f.Close()
	for {
		names, err := f.Readdirnames(1024)
		for _, n := range names {
			if err := do(n); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
